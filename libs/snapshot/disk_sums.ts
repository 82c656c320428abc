import { TorporError } from "@torpor/errors";
import { crc32c } from "./crc32c.ts";

/** Numbers of docs/formats/disk-sums.md. */
const MAGIC = new TextEncoder().encode("TORPORCK");
const VERSION = 1;
const FIXED_BYTES = 32;
const CRC_AT = 24;

/** Bytes of a disk that one checksum is of; the last one may be of fewer. */
export const SUM_CHUNK_BYTES = 2 ** 20;

/** The file `disk.sums`: checksums of a whole disk, chunk by chunk. */
export interface DiskSums {
  /** Bytes of the disk. */
  sizeBytes: number;
  /** CRC-32C of each {@linkcode SUM_CHUNK_BYTES} of it; a hole counts as zeros. */
  sums: Uint32Array;
}

/** How many checksums a disk has. */
export function sumCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / SUM_CHUNK_BYTES);
}

/** The bytes of `disk.sums`. */
export function encodeDiskSums({ sizeBytes, sums }: DiskSums): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FIXED_BYTES + 4 * sums.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, SUM_CHUNK_BYTES, true);
  view.setBigUint64(16, BigInt(sizeBytes), true);
  sums.forEach((sum, index) => view.setUint32(FIXED_BYTES + 4 * index, sum, true));
  view.setUint32(CRC_AT, crc32c(bytes), true);
  return bytes;
}

/**
 * Reads what {@linkcode encodeDiskSums} wrote.
 * @throws TorporError `snapshot_corrupt`.
 */
export function decodeDiskSums(bytes: Uint8Array): DiskSums {
  const require = (holds: boolean, rule: string) => {
    if (!holds) throw new TorporError("snapshot_corrupt", `disk.sums breaks the rule ${rule}`);
  };
  require(bytes.length >= FIXED_BYTES, "too_short");
  require(MAGIC.every((byte, index) => bytes[index] === byte), "magic");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  require(view.getUint32(8, true) === VERSION, "version");
  const unsummed = bytes.slice();
  unsummed.fill(0, CRC_AT, CRC_AT + 4);
  require(crc32c(unsummed) === view.getUint32(CRC_AT, true), "crc32c");
  require(view.getUint32(12, true) === SUM_CHUNK_BYTES, "chunk_bytes");
  require(view.getUint32(28, true) === 0, "reserved");
  const sizeBytes = Number(view.getBigUint64(16, true));
  const count = sumCount(sizeBytes);
  require(bytes.length === FIXED_BYTES + 4 * count, "file_size");
  const sums = Uint32Array.from({ length: count }, (_, index) => view.getUint32(FIXED_BYTES + 4 * index, true));
  return { sizeBytes, sums };
}
