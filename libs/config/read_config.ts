import { z } from "zod";
import { TorporError } from "@torpor/errors";

/**
 * Reads a service's configuration from environment variables.
 * @param shape one zod schema per variable, by the variable's name; use `z.coerce` for numbers.
 * @param env the variables; by default those of the process that the shape names.
 * @throws TorporError `config_invalid` that names every variable at fault and what it should be.
 */
export function readConfig<Shape extends z.ZodRawShape>(
  shape: Shape,
  env: Record<string, string | undefined> = pick(Object.keys(shape)),
): z.infer<z.ZodObject<Shape>> {
  const result = z.object(shape).safeParse(env);
  if (result.success) return result.data as z.infer<z.ZodObject<Shape>>;
  const faults = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new TorporError("config_invalid", `invalid configuration: ${faults.join("; ")}`, {
    field: String(result.error.issues[0]?.path[0] ?? ""),
    hint: "set the environment variables named in the message",
  });
}

function pick(names: string[]): Record<string, string | undefined> {
  // An empty variable counts as unset, as Compose files write `NAME=${NAME:-}`.
  return Object.fromEntries(names.map((name) => [name, Deno.env.get(name) || undefined]));
}
