import postgres from "@torpor/postgres";
import { TorporError } from "@torpor/errors";

/** Codes of postgres.js and of the socket for "the server cannot be reached, or went away in the middle". */
const CONNECTION_CODES = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "EPIPE",
]);

/** SQLSTATEs of a server that is stopping, starting or full (PostgreSQL manual, appendix A). */
const UNAVAILABLE_STATES = new Set(["57P01", "57P02", "57P03", "57P05", "25P03", "53300"]);

/** SQLSTATEs after which the same transaction can succeed: serialization failure and deadlock. */
const RETRY_STATES = new Set(["40001", "40P01"]);

/** True when running the same transaction again can succeed. */
export function isRetryable(thrown: unknown): boolean {
  return thrown instanceof postgres.PostgresError && RETRY_STATES.has(thrown.code);
}

/** SQLSTATEs of a statement that was given up: it waited for too long. */
const SLOW_STATES = new Set(["57014", "55P03"]);

function tooSlow(cause: unknown): TorporError {
  return new TorporError("unavailable", "the database does not answer in time", { cause, retryAfterSec: 2 });
}

/** True when `thrown` is a violation of the named constraint. */
export function violates(thrown: unknown, constraint: string): boolean {
  return thrown instanceof postgres.PostgresError && thrown.constraint_name === constraint;
}

/** SQLSTATE of `require_room` in the schema. */
const QUOTA_STATE = "TQ001";

/** What a refused change says about the limit that it met. */
interface MetLimit {
  limit: string;
  most: number;
  used: number;
  asked: number;
}

/** The error of a change that a limit of its team does not allow. */
export function quotaExceeded({ limit, most, used, asked }: MetLimit, cause?: unknown): TorporError {
  const hint = asked > most
    ? `one of this size is never allowed; an administrator can raise ${limit}`
    : `free some, or have an administrator raise ${limit}`;
  return new TorporError("quota_exceeded", `${limit} is ${most}: ${used} in use, ${asked} more asked for`, {
    cause,
    field: limit,
    hint,
    details: { limit: most, used, asked },
    retryAfterSec: asked > most ? undefined : QUOTA_RETRY_SEC,
  });
}

/** What is in use may become free with the next pause or delete. */
const QUOTA_RETRY_SEC = 5;

/**
 * A lost or refused connection and a statement that took too long become `unavailable` (whether a commit happened is then
 * unknown), a limit that is reached `quota_exceeded`; the rest stays.
 */
export function fromDatabaseError(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown instanceof TorporError) return thrown;
  const code = (thrown as { code?: unknown }).code;
  if (typeof code !== "string") return thrown;
  if (thrown instanceof postgres.PostgresError && code === QUOTA_STATE) {
    return quotaExceeded(JSON.parse(thrown.detail ?? ""), thrown);
  }
  if (thrown instanceof postgres.PostgresError && SLOW_STATES.has(code)) return tooSlow(thrown);
  if (code === "QUEUE_TIMEOUT") {
    return new TorporError("unavailable", "no connection to the database is free", { cause: thrown, retryAfterSec: 2 });
  }
  const unavailable = thrown instanceof postgres.PostgresError
    ? UNAVAILABLE_STATES.has(code) || code.startsWith("08")
    : CONNECTION_CODES.has(code);
  if (!unavailable) return thrown;
  return new TorporError("unavailable", "the database cannot be reached", { cause: thrown, retryAfterSec: 1 });
}
