/** CRC-32C. @module */
import { native } from "./library.ts";

/** CRC-32C (Castagnoli) of `bytes`, continuing from `seed`: the checksum of what came before, 0 at the start. */
export function crc32c(bytes: Uint8Array<ArrayBuffer>, seed = 0): number {
  return native().torpor_crc32c(seed, bytes, BigInt(bytes.byteLength));
}
