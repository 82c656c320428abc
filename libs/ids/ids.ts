import { TorporError } from "@torpor/errors";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** Sandbox, snapshot, operation and host ids: 20 characters of base32, 100 random bits, safe in paths and host names. */
export const ID_PATTERN = /^[a-z0-9]{20}$/;

/** A new random id (see {@linkcode ID_PATTERN}). */
export function newId(): string {
  const random = crypto.getRandomValues(new Uint8Array(20));
  let id = "";
  for (const byte of random) id += ALPHABET[byte & 31];
  return id;
}

/** True when `value` has the form of an id. Every id is checked before it becomes part of a path. */
export function isId(value: unknown): value is string {
  return typeof value === "string" && ID_PATTERN.test(value);
}

/**
 * Returns `value` when it has the form of an id.
 * @throws TorporError `invalid_argument` naming `field` otherwise.
 */
export function requireId(value: unknown, field: string): string {
  if (isId(value)) return value;
  throw new TorporError("invalid_argument", `${field} must be 20 characters of a-z and 0-9`, { field });
}

const TEMPLATE_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

/**
 * Returns `value` when it can name a template: 1 to 63 characters of a-z, 0-9 and "-", not starting with "-".
 * @throws TorporError `invalid_argument` naming `field` otherwise.
 */
export function requireTemplateName(value: string, field = "template"): string {
  if (TEMPLATE_PATTERN.test(value)) return value;
  throw new TorporError("invalid_argument", `${field} must be 1 to 63 characters of a-z, 0-9 and "-"`, { field });
}
