import { z } from "@hono/zod-openapi";
import { ID_PATTERN } from "@torpor/ids";

/** Bytes of `text` in UTF-8. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/**
 * Text that every place it goes to can hold: PostgreSQL's jsonb and the arguments of a process refuse NUL, and neither
 * has lone surrogates.
 */
export function plainText(maxBytes: number, minBytes = 0) {
  return z.string()
    .refine((text) => !text.includes("\0"), "must not contain NUL")
    .refine((text) => text.isWellFormed(), "must be well-formed Unicode")
    .refine((text) => byteLength(text) >= minBytes, `must have at least ${minBytes} byte`)
    .refine((text) => byteLength(text) <= maxBytes, `must have at most ${maxBytes} bytes in UTF-8`)
    .openapi({ type: "string", maxLength: maxBytes, ...(minBytes > 0 ? { minLength: minBytes } : {}) });
}

/** An id in a path or body (libs/ids). */
export const idText = z.string().regex(ID_PATTERN, "must be 20 characters of a-z and 0-9").openapi({
  example: "k2h7q3m5w4x6z7a2b3c4",
});

/** A name in /etc/passwd of the guest; empty: the default user. */
export const userName = z.string().regex(/^([a-z_][a-z0-9_-]{0,31})?$/, "must be a user name").default("").openapi({
  description: 'A user of the guest. Default "user".',
  example: "user",
});

/** A path inside a guest: absolute, or relative to the user's home directory. */
export const guestPath = plainText(4096, 1).openapi({
  description: "Absolute, or relative to the home directory of the user. At most 4,096 bytes.",
  example: "/home/user/notes.txt",
});

const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

/** Environment variables: at most 256 and `maxBytes` together. */
export function environment(maxBytes: number) {
  return z.record(z.string().regex(ENVIRONMENT_NAME, "must match [A-Za-z_][A-Za-z0-9_]{0,127}"), plainText(maxBytes))
    .refine((env) => Object.keys(env).length <= 256, "must have at most 256 variables")
    .refine((env) => recordBytes(env) <= maxBytes, `must have at most ${maxBytes} bytes together`)
    .default({})
    .openapi({ type: "object", additionalProperties: { type: "string" }, example: { LANG: "C.UTF-8" } });
}

/** Bytes of all names and values. */
export function recordBytes(record: Record<string, string>): number {
  return Object.entries(record).reduce((sum, [name, value]) => sum + byteLength(name) + byteLength(value), 0);
}
