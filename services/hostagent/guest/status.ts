import { type ErrorCode, TorporError } from "@torpor/errors";
import { type Status, StatusCode } from "@torpor/proto/guest";

/** What a request is about; it decides what "not found" means. */
export type Subject = "file" | "process" | "port" | "agent";

/** The status as the guest sent it: the cause of the TorporError that callers see. */
export class GuestStatusError extends Error {
  override readonly name = "GuestStatusError";
  readonly statusCode: StatusCode;
  /** The guest kernel's errno, or 0. */
  readonly errno: number;

  constructor(status: Status) {
    super(readable(status.message));
    this.statusCode = status.code;
    this.errno = status.errnoValue;
  }
}

const COMMON: Partial<Record<StatusCode, ErrorCode>> = {
  [StatusCode.INVALID_ARGUMENT]: "invalid_argument",
  [StatusCode.PERMISSION_DENIED]: "permission_denied",
  [StatusCode.ALREADY_EXISTS]: "already_exists",
  [StatusCode.NO_SPACE]: "no_space",
  [StatusCode.RESOURCE_EXHAUSTED]: "rate_limited",
};

const BY_SUBJECT: Record<Subject, Partial<Record<StatusCode, ErrorCode>>> = {
  file: { [StatusCode.NOT_FOUND]: "file_not_found", [StatusCode.FAILED_PRECONDITION]: "file_precondition" },
  process: { [StatusCode.NOT_FOUND]: "process_not_found", [StatusCode.FAILED_PRECONDITION]: "conflict" },
  port: { [StatusCode.NOT_FOUND]: "port_closed", [StatusCode.FAILED_PRECONDITION]: "port_closed" },
  agent: { [StatusCode.NOT_FOUND]: "not_found", [StatusCode.FAILED_PRECONDITION]: "conflict" },
};

const HINTS: Partial<Record<ErrorCode, string>> = {
  rate_limited: "the guest is short of memory or processes; end some and try again",
  no_space: "the sandbox's disk is full; remove files",
};

/** The error for a status that is not OK. */
export function statusError(status: Status, subject: Subject): TorporError {
  const code = BY_SUBJECT[subject][status.code] ?? COMMON[status.code] ?? "internal";
  const cause = new GuestStatusError(status);
  const message = cause.message || `the guest answered with status ${status.code}`;
  return new TorporError(code, message, { cause, hint: HINTS[code] });
}

/** Text from the guest is shown to its owner and written to logs: short, and without control characters. */
function readable(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.slice(0, 512).replace(/[\u0000-\u001f\u007f-\u009f]/g, " ");
}
