/** Bitmaps have one bit per page, least significant bit first. @module */

/** Sets in `into` what is set in `other`. */
export function orInto(into: Uint8Array, other: Uint8Array): void {
  for (let at = 0; at < into.length; at++) into[at]! |= other[at] ?? 0;
}

/** Clears in `into` what is not set in `other`. */
export function andInto(into: Uint8Array, other: Uint8Array): void {
  for (let at = 0; at < into.length; at++) into[at]! &= other[at] ?? 0;
}

/** Number of bits that are set. */
export function countBits(bitmap: Uint8Array): number {
  let count = 0;
  for (let byte of bitmap) for (; byte; byte &= byte - 1) count++;
  return count;
}
