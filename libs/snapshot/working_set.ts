import { crc32c } from "./crc32c.ts";
import { PAGE_BYTES } from "./extent_table.ts";

/** Numbers of docs/formats/working-set.md. */
const MAGIC = new TextEncoder().encode("TORPORWS");
const VERSION = 1;
const FIXED_BYTES = 32;
const MAX_PAGES = 65_536;

/**
 * The file `working-set`: pages of guest memory that earlier resumes touched, in the order of their first fault.
 * @param memoryBytes size of the guest's memory.
 */
export function encodeWorkingSet(pages: Uint32Array, memoryBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FIXED_BYTES + 4 * pages.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, PAGE_BYTES, true);
  view.setBigUint64(16, BigInt(memoryBytes), true);
  view.setUint32(24, pages.length, true);
  pages.forEach((page, index) => view.setUint32(FIXED_BYTES + 4 * index, page, true));
  view.setUint32(28, crc32c(bytes.subarray(FIXED_BYTES)), true);
  return bytes;
}

/** The pages, or undefined when the file breaks a rule: it is advice, and none is as good. */
export function decodeWorkingSet(bytes: Uint8Array, memoryBytes: number): Uint32Array<ArrayBuffer> | undefined {
  if (bytes.length < FIXED_BYTES || !MAGIC.every((byte, index) => bytes[index] === byte)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getUint32(24, true);
  const valid = view.getUint32(8, true) === VERSION && view.getUint32(12, true) === PAGE_BYTES &&
    view.getBigUint64(16, true) === BigInt(memoryBytes) && count <= MAX_PAGES &&
    bytes.length === FIXED_BYTES + 4 * count && view.getUint32(28, true) === crc32c(bytes.subarray(FIXED_BYTES));
  if (!valid) return undefined;
  const pages = Uint32Array.from({ length: count }, (_, index) => view.getUint32(FIXED_BYTES + 4 * index, true));
  return pages.every((page) => page < memoryBytes / PAGE_BYTES) ? pages : undefined;
}

/**
 * What to fetch ahead next time: what faulted although it was not fetched ahead, then what was. When there is no room for
 * all, what was fetched longest ago goes first: nobody knows whether it is still used.
 */
export function mergeWorkingSets(faulted: Uint32Array, fetched: Uint32Array, limit: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from([...new Set([...faulted, ...fetched])].slice(0, limit));
}
