import { claimIdempotencyKey, type IdempotencyRow, type Queryable } from "@torpor/db";
import { TorporError } from "@torpor/errors";

/** A key that a client sends so that a repeated request is carried out once. */
export interface IdempotentRequest {
  teamId: string;
  key: string;
  /** SHA-256 over what the request asks for. */
  requestHash: Uint8Array;
}

/**
 * Takes the key of a request.
 * @param field how the caller's surface names the key, for the error.
 * @returns undefined when the key is new, else what it was used for: this same request.
 * @throws TorporError `idempotency_mismatch` when that was another request.
 */
export async function claimRequest(
  sql: Queryable,
  request: IdempotentRequest,
  field = "idempotency_key",
): Promise<IdempotencyRow | undefined> {
  const used = await claimIdempotencyKey(sql, request);
  if (!used || used.requestHash.every((byte, index) => byte === request.requestHash[index])) return used;
  throw new TorporError("idempotency_mismatch", "this Idempotency-Key was used for another request", {
    field,
    hint: "use a new key for each request",
  });
}

/**
 * The identity of a request: equal for the same verb, sandbox and body, whatever the order of the body's fields.
 */
export async function requestHash(...parts: unknown[]): Promise<Uint8Array> {
  const text = JSON.stringify(parts.map(withSortedKeys));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

function withSortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withSortedKeys);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => a < b ? -1 : 1).map(([key, field]) => [key, withSortedKeys(field)]),
  );
}
