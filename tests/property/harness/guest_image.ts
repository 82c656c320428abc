/** Bytes of a page. */
export const PAGE = 4096;

/** What a guest must consist of at one moment, byte for byte: the model that chains are checked against. */
export interface GuestImage {
  memory: Uint8Array<ArrayBuffer>;
  disk: Uint8Array<ArrayBuffer>;
  /** What the VMM keeps of its devices. */
  registers: Uint8Array<ArrayBuffer>;
}

/** An independent copy. */
export function copyImage({ memory, disk, registers }: GuestImage): GuestImage {
  return { memory: memory.slice(), disk: disk.slice(), registers: registers.slice() };
}

/** What differs first, in words, or undefined when all bytes are equal. */
export function firstDifference(expected: GuestImage, actual: Partial<GuestImage>): string | undefined {
  for (const part of ["registers", "memory", "disk"] as const) {
    const difference = actual[part] && differenceOf(expected[part], actual[part]);
    if (difference) return `${part}: ${difference}`;
  }
  return undefined;
}

function differenceOf(expected: Uint8Array, actual: Uint8Array): string | undefined {
  if (expected.length !== actual.length) return `${actual.length} bytes, not ${expected.length}`;
  const pages: number[] = [];
  for (let at = 0; at < expected.length; at += PAGE) {
    if (!equal(expected.subarray(at, at + PAGE), actual.subarray(at, at + PAGE))) pages.push(at / PAGE);
  }
  if (pages.length === 0) return undefined;
  const at = pages[0]! * PAGE + firstByte(expected, actual, pages[0]! * PAGE);
  return `${pages.length} wrong pages (${pages.slice(0, 20).join(" ")}); byte ${at} is ${actual[at]}, not ${
    expected[at]
  }`;
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length % 8 || one.byteOffset % 8 || other.byteOffset % 8) return one.every((byte, at) => byte === other[at]);
  const [words, others] = [one, other].map((part) => new BigUint64Array(part.buffer, part.byteOffset, part.length / 8));
  return words!.every((word, at) => word === others![at]);
}

function firstByte(one: Uint8Array, other: Uint8Array, from: number): number {
  let at = from;
  while (one[at] === other[at]) at++;
  return at - from;
}
