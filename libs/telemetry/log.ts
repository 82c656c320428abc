import { TorporError } from "@torpor/errors";
import { activeSpanContext } from "./spans.ts";

/** Levels of a log line. `error` means that an operator should look. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Fields of a log line. Never secrets, never a user's command or output. */
export type LogFields = Record<string, string | number | boolean | undefined | null>;

const service = Deno.env.get("OTEL_SERVICE_NAME") ?? "torpor";

/**
 * Writes one JSON line to stderr.
 * @param event a stable name for the fact (`sandbox_paused`); one name, one fact.
 * @param cause an error: its code, message and chain of causes are added.
 */
export function log(level: LogLevel, event: string, fields: LogFields = {}, cause?: unknown): void {
  const span = activeSpanContext();
  const line = {
    time: new Date().toISOString(),
    level,
    service,
    event,
    ...fields,
    ...(cause === undefined ? {} : { error: describe(cause) }),
    ...(span ? { trace_id: span.traceId, span_id: span.spanId } : {}),
  };
  console.error(JSON.stringify(line));
}

function describe(thrown: unknown, depth = 0): Record<string, unknown> {
  if (!(thrown instanceof Error)) return { message: String(thrown) };
  const described: Record<string, unknown> = {
    ...(thrown instanceof TorporError ? { code: thrown.code } : { name: thrown.name }),
    message: thrown.message,
  };
  if (thrown.cause !== undefined && depth < 5) described.cause = describe(thrown.cause, depth + 1);
  else if (!(thrown instanceof TorporError)) described.stack = thrown.stack;
  return described;
}
