/**
 * The stable error codes of every surface. A code names a cause that a caller can act on; its HTTP status and its
 * ConnectRPC code follow from this table alone.
 */
export const ERROR_CODES = {
  invalid_argument: { http: 422, connect: "invalid_argument" },
  payload_too_large: { http: 413, connect: "resource_exhausted" },
  output_too_large: { http: 413, connect: "resource_exhausted" },
  unsupported_media_type: { http: 415, connect: "invalid_argument" },
  unauthenticated: { http: 401, connect: "unauthenticated" },
  permission_denied: { http: 403, connect: "permission_denied" },
  not_found: { http: 404, connect: "not_found" },
  sandbox_not_found: { http: 404, connect: "not_found" },
  team_not_found: { http: 404, connect: "not_found" },
  api_key_not_found: { http: 404, connect: "not_found" },
  template_not_found: { http: 404, connect: "not_found" },
  operation_not_found: { http: 404, connect: "not_found" },
  trace_not_found: { http: 404, connect: "not_found" },
  host_not_found: { http: 404, connect: "not_found" },
  snapshot_not_found: { http: 404, connect: "not_found" },
  webhook_not_found: { http: 404, connect: "not_found" },
  delivery_not_found: { http: 404, connect: "not_found" },
  process_not_found: { http: 404, connect: "not_found" },
  file_not_found: { http: 404, connect: "not_found" },
  method_not_allowed: { http: 405, connect: "unimplemented" },
  already_exists: { http: 409, connect: "already_exists" },
  /** The sandbox is in a state that the call does not allow, or another operation holds it. */
  conflict: { http: 409, connect: "failed_precondition" },
  /** It was paused while the call was under way. Processes sleep with it; a resume wakes them. */
  sandbox_paused: { http: 409, connect: "failed_precondition" },
  /** The call carries an older fencing token than the host has seen. */
  fenced: { http: 409, connect: "failed_precondition" },
  snapshot_mismatch: { http: 409, connect: "failed_precondition" },
  not_leader: { http: 409, connect: "failed_precondition" },
  file_precondition: { http: 409, connect: "failed_precondition" },
  idempotency_mismatch: { http: 422, connect: "invalid_argument" },
  rate_limited: { http: 429, connect: "resource_exhausted" },
  /** A limit of the team; `details` has it, and what is in use. */
  quota_exceeded: { http: 429, connect: "resource_exhausted" },
  /** The host that has the sandbox's data was taken out by an administrator; it may be added again. */
  host_removed: { http: 409, connect: "failed_precondition" },
  unimplemented: { http: 501, connect: "unimplemented" },
  no_capacity: { http: 503, connect: "unavailable" },
  no_space: { http: 507, connect: "resource_exhausted" },
  /** The host's disk has failed a write of the sandbox; the sandbox stands still until it does not. */
  io_error: { http: 503, connect: "unavailable" },
  host_unreachable: { http: 503, connect: "unavailable" },
  unavailable: { http: 503, connect: "unavailable" },
  deadline_exceeded: { http: 504, connect: "deadline_exceeded" },
  canceled: { http: 499, connect: "canceled" },
  /** The VM process ended by itself or was killed. */
  vm_gone: { http: 500, connect: "aborted" },
  vm_start_failed: { http: 500, connect: "internal" },
  pager_failed: { http: 500, connect: "aborted" },
  pause_failed: { http: 500, connect: "internal" },
  snapshot_failed: { http: 500, connect: "internal" },
  resume_failed: { http: 500, connect: "internal" },
  snapshot_corrupt: { http: 500, connect: "data_loss" },
  snapshot_missing: { http: 500, connect: "data_loss" },
  guest_unreachable: { http: 503, connect: "unavailable" },
  /** Nobody listens at this port of the sandbox, or who did has hung up. */
  port_closed: { http: 502, connect: "unavailable" },
  guest_protocol: { http: 502, connect: "internal" },
  native: { http: 500, connect: "internal" },
  config_invalid: { http: 500, connect: "internal" },
  internal: { http: 500, connect: "internal" },
} as const;

/** One of the keys of {@linkcode ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** What besides code and message an error can carry. */
export interface TorporErrorOptions {
  /** The error underneath; it is kept for logs and never shown to a client. */
  cause?: unknown;
  /** The input field at fault, in the caller's spelling (`memory_mb`). */
  field?: string;
  /** What the caller or the operator can do. */
  hint?: string;
  /** Seconds after which the same call may succeed. */
  retryAfterSec?: number;
  /** Numbers that clients act on, such as a limit and what is in use. */
  details?: Record<string, number>;
}

/** The one error class of the project. Callers branch on `code`, never on the message. */
export class TorporError extends Error {
  override readonly name = "TorporError";
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly hint: string | undefined;
  readonly retryAfterSec: number | undefined;
  readonly details: Record<string, number> | undefined;

  constructor(code: ErrorCode, message: string, options: TorporErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.field = options.field;
    this.hint = options.hint;
    this.retryAfterSec = options.retryAfterSec;
    this.details = options.details;
  }

  /** The HTTP status of this error's code. */
  get httpStatus(): number {
    return ERROR_CODES[this.code].http;
  }
}

/** True when `value` is one of the stable codes. */
export function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(ERROR_CODES, value);
}

/** Whatever was thrown, as a TorporError; what is none becomes `internal` with the original as its cause. */
export function asTorporError(thrown: unknown): TorporError {
  if (thrown instanceof TorporError) return thrown;
  return new TorporError("internal", "an unexpected error occurred", { cause: thrown });
}
