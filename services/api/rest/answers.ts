import { z } from "@hono/zod-openapi";
import { ERROR_CODES, type ErrorCode } from "@torpor/errors";

/** The body of every error. */
export const errorView = z.object({
  code: z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]).openapi({
    description: "Stable; clients branch on it and never on the message.",
  }),
  message: z.string(),
  field: z.string().optional().openapi({ description: "The input field at fault.", example: "memory_mb" }),
  hint: z.string().optional().openapi({ description: "What the caller or the operator can do." }),
  details: z.record(z.string(), z.number()).optional().openapi({
    description: "Numbers to act on: of `quota_exceeded` `limit`, `used` and `asked`.",
  }),
  trace_id: z.string().optional().openapi({ description: "See GET /v1/traces/{trace_id}." }),
}).openapi("Error");

/** A JSON answer in the description of a route. */
export function jsonAnswer<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { "application/json": { schema } } };
}

/** A JSON body in the description of a route. It may be left out when every member has a default. */
export function jsonBody<Schema extends z.ZodType>(schema: Schema, required: boolean) {
  return { required, content: { "application/json": { schema } } };
}

function errorAnswer(description: string) {
  return jsonAnswer(errorView, description);
}

/** The errors that any route under /v1 can answer. */
export const commonErrors = {
  401: errorAnswer("No, unknown, expired or revoked API key (`unauthenticated`)."),
  422: errorAnswer("The input is not valid (`invalid_argument` with `field`)."),
  403: errorAnswer("The API key lacks the scope that the message names (`permission_denied`); nothing was touched."),
  429: errorAnswer("Too many requests (`rate_limited`), or a limit of the team is reached (`quota_exceeded`)."),
  500: errorAnswer("The service failed; `trace_id` leads to the reason."),
  503: errorAnswer("Something that is needed is away or full; see Retry-After."),
};

/** And those of a route about one sandbox. */
export const sandboxErrors = {
  ...commonErrors,
  404: errorAnswer("No such sandbox, file, process … (`sandbox_not_found`, `file_not_found` …)."),
  409: errorAnswer("The sandbox is in a state that does not allow it (`conflict`)."),
};

/** And those of a route about snapshots. */
export const snapshotErrors = {
  ...commonErrors,
  403: errorAnswer("Only for administrators (`permission_denied`); nothing was touched."),
  404: errorAnswer("No such snapshot or sandbox (`snapshot_not_found`, `sandbox_not_found`)."),
  409: errorAnswer("The name is taken (`already_exists`), or a state does not allow it (`conflict`)."),
};
