/** A key that a client sends so that a repeated request is carried out once. */
export interface IdempotentRequest {
  teamId: string;
  key: string;
  /** SHA-256 over what the request asks for. */
  requestHash: Uint8Array;
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
