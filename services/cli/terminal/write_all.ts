/** Writes all bytes; `write` alone may write fewer. */
export async function writeAll(
  stream: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await stream.write(bytes.subarray(written));
}
