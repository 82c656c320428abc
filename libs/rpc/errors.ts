import { Code, ConnectError } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { asTorporError, ERROR_CODES, isErrorCode, TorporError } from "@torpor/errors";
import { type ErrorDetail, ErrorDetailSchema } from "@torpor/proto/torpor";
import { currentTraceId } from "@torpor/telemetry";

const CONNECT_CODES: Record<string, Code> = {
  invalid_argument: Code.InvalidArgument,
  resource_exhausted: Code.ResourceExhausted,
  unauthenticated: Code.Unauthenticated,
  permission_denied: Code.PermissionDenied,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  failed_precondition: Code.FailedPrecondition,
  unimplemented: Code.Unimplemented,
  unavailable: Code.Unavailable,
  deadline_exceeded: Code.DeadlineExceeded,
  canceled: Code.Canceled,
  aborted: Code.Aborted,
  internal: Code.Internal,
  data_loss: Code.DataLoss,
};

/** The ConnectRPC form of an error: its code, and an ErrorDetail with our stable code, the field and the hint. */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError && thrown.findDetails(ErrorDetailSchema).length > 0) return thrown;
  const error = thrown instanceof ConnectError ? fromConnectError(thrown) : asTorporError(thrown);
  const detail = create(ErrorDetailSchema, {
    code: error.code,
    field: error.field ?? "",
    hint: error.hint ?? "",
    traceId: currentTraceId() ?? "",
    details: Object.fromEntries(Object.entries(error.details ?? {}).map(([name, value]) => [name, BigInt(value)])),
  });
  const code = CONNECT_CODES[ERROR_CODES[error.code].connect] ?? Code.Internal;
  const metadata = error.retryAfterSec === undefined ? undefined : { "retry-after": String(error.retryAfterSec) };
  return new ConnectError(error.message, code, metadata, [{ desc: ErrorDetailSchema, value: detail }], thrown);
}

/** Our stable code for a ConnectError that carries no detail of ours: it came from the library or the transport. */
const CODES_WITHOUT_DETAIL = {
  [Code.Canceled]: "canceled",
  [Code.InvalidArgument]: "invalid_argument",
  [Code.DeadlineExceeded]: "deadline_exceeded",
  [Code.NotFound]: "not_found",
  [Code.AlreadyExists]: "already_exists",
  [Code.PermissionDenied]: "permission_denied",
  [Code.ResourceExhausted]: "payload_too_large",
  [Code.FailedPrecondition]: "conflict",
  [Code.Unimplemented]: "unimplemented",
  [Code.Unavailable]: "unavailable",
  [Code.Unauthenticated]: "unauthenticated",
} as const;

/** The TorporError that a ConnectError stands for; the ConnectError stays as its cause. */
export function fromConnectError(error: ConnectError): TorporError {
  const detail = error.findDetails(ErrorDetailSchema)[0];
  if (detail && isErrorCode(detail.code)) {
    return new TorporError(detail.code, error.rawMessage, {
      cause: error,
      field: detail.field || undefined,
      hint: detail.hint || undefined,
      retryAfterSec: Number(error.metadata.get("retry-after")) || undefined,
      details: detailsOf(detail),
    });
  }
  const code = CODES_WITHOUT_DETAIL[error.code as keyof typeof CODES_WITHOUT_DETAIL] ?? "internal";
  return new TorporError(code, error.rawMessage, { cause: error });
}

function detailsOf({ details }: ErrorDetail): Record<string, number> | undefined {
  const entries = Object.entries(details).map(([name, value]) => [name, Number(value)] as const);
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}

/**
 * The error of a failed call. A transport that broke (refused, reset, closed) is `unavailable`: whether the other side
 * carried the call out is unknown.
 */
export function fromCallError(thrown: unknown): TorporError {
  if (thrown instanceof TorporError) return thrown;
  const error = ConnectError.from(thrown);
  if (error.cause instanceof DOMException && error.cause.name === "TimeoutError") {
    return new TorporError("deadline_exceeded", "the service did not answer in time", { cause: thrown });
  }
  // fetch reports a refused or broken connection as a TypeError or as one of Deno's own errors.
  const transport = error.cause instanceof TypeError || error.cause instanceof Deno.errors.Http;
  if (error.code === Code.Unknown || transport) {
    return new TorporError("unavailable", "the service could not be reached", { cause: thrown });
  }
  return fromConnectError(error);
}
