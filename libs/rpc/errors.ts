import { Code, ConnectError } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { asTorporError, ERROR_CODES } from "@torpor/errors";
import { ErrorDetailSchema } from "@torpor/proto/torpor";
import { currentTraceId } from "@torpor/telemetry";
import { fromConnectError } from "./call_error.ts";

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
