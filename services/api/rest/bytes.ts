import { TorporError } from "@torpor/errors";

/** How bytes are written in JSON. */
export type TextEncoding = "utf-8" | "base64";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as text when they are valid UTF-8, else in base64: either way the receiver gets back the same bytes. */
export function encodeOutput(bytes: Uint8Array): { text: string; encoding: TextEncoding } {
  try {
    return { text: strictUtf8.decode(bytes), encoding: "utf-8" };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { text: bytes.toBase64(), encoding: "base64" };
  }
}

/**
 * The bytes that `text` stands for.
 * @throws TorporError `invalid_argument` naming `field` when it is no base64.
 */
export function decodeInput(text: string, encoding: TextEncoding, field: string): Uint8Array<ArrayBuffer> {
  if (encoding === "utf-8") return new TextEncoder().encode(text);
  try {
    return Uint8Array.fromBase64(text);
  } catch (thrown) {
    throw new TorporError("invalid_argument", `${field}: must be base64`, { field, cause: thrown });
  }
}
