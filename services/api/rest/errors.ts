import { trace } from "@opentelemetry/api";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { asTorporError, TorporError } from "@torpor/errors";
import { errorResponse } from "@torpor/rpc";
import { log, recordError } from "@torpor/telemetry";
import { inputError } from "../inputs/parse.ts";

/** What the framework found before a handler ran, as our error. */
function fromHttpException(exception: HTTPException): TorporError {
  const options = { cause: exception };
  switch (exception.status) {
    case 415:
      return new TorporError("unsupported_media_type", "the body must be application/json", options);
    case 413:
      return new TorporError("payload_too_large", "the body is too large", options);
    case 400:
      return new TorporError("invalid_argument", "the body is not valid JSON", { ...options, field: "body" });
    default:
      return new TorporError("internal", "the request could not be handled", options);
  }
}

const RETRY_STATUSES = [429, 503];
const DEFAULT_RETRY_SEC = 5;

/** The error that stands for whatever a route threw. */
export function errorOf(thrown: unknown): TorporError {
  return thrown instanceof HTTPException ? fromHttpException(thrown) : asTorporError(thrown);
}

/** The answer for whatever a route threw. What is our fault is logged with its cause, which no client sees. */
export function answerError(thrown: unknown): Response {
  const error = errorOf(thrown);
  const span = trace.getActiveSpan();
  if (error.httpStatus >= 500) {
    log("error", "request_failed", {}, error);
    if (span) recordError(span, error);
  } else {
    span?.setAttribute("error.code", error.code);
  }
  const response = errorResponse(error);
  // Errors of other services lose their Retry-After on the way; a client should not come back at once either way.
  if (RETRY_STATUSES.includes(response.status) && !response.headers.has("retry-after")) {
    response.headers.set("retry-after", String(DEFAULT_RETRY_SEC));
  }
  return response;
}

/** zod-openapi's hook: the first field at fault becomes the answer. */
export function refuseInvalid(
  result: { success: true } | { success: false; error: Parameters<typeof inputError>[0] },
  _context: Context,
): void {
  if (!result.success) throw inputError(result.error);
}
