import { asTorporError } from "@torpor/errors";
import { currentTraceId } from "@torpor/telemetry";

/** The JSON body of every error on `/v1`: `{code, message, field?, hint?, details?, trace_id?}`. */
export function errorBody(thrown: unknown): Record<string, unknown> {
  const error = asTorporError(thrown);
  const traceId = currentTraceId();
  return {
    code: error.code,
    message: error.message,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.details === undefined ? {} : { details: error.details }),
    ...(traceId === undefined ? {} : { trace_id: traceId }),
  };
}

/** The HTTP answer for an error: status by its code, {@linkcode errorBody}, Retry-After where the error has one. */
export function errorResponse(thrown: unknown): Response {
  const error = asTorporError(thrown);
  const headers = new Headers();
  if (error.retryAfterSec !== undefined) headers.set("retry-after", String(error.retryAfterSec));
  return Response.json(errorBody(error), { status: error.httpStatus, headers });
}
