import type { z } from "zod";
import { TorporError } from "@torpor/errors";

/**
 * Checks the input of a call against its schema; defaults are filled in.
 * @throws TorporError `invalid_argument` with the first field at fault, in the caller's spelling.
 */
export function parseInput<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw inputError(result.error);
}

/** The `invalid_argument` that stands for what zod found, with the first field at fault. */
export function inputError(error: z.core.$ZodError): TorporError {
  const issue = error.issues[0];
  const field = issue === undefined ? "" : fieldOf(issue);
  const message = issue === undefined ? "the input is not valid" : messageOf(issue);
  return new TorporError("invalid_argument", field === "" ? message : `${field}: ${message}`, {
    field: field || undefined,
  });
}

function messageOf(issue: z.core.$ZodIssue): string {
  return issue.code === "invalid_key" ? issue.issues[0]?.message ?? issue.message : issue.message;
}

function fieldOf(issue: z.core.$ZodIssue): string {
  // An unknown member is reported on the object that has it; the caller wants to know the member.
  const path = issue.code === "unrecognized_keys" ? [...issue.path, issue.keys[0] ?? ""] : issue.path;
  return path.map(String).join(".").slice(0, 200);
}
