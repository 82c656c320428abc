/** Disks as differences, and putting files together from parts of others. @module */
import { check, invalidArgument } from "./errors.ts";
import { keepingAlive, native } from "./library.ts";
import { type MemoryRun, PAGE_SIZE, takeRuns } from "./memory.ts";

export interface DiskDiffOptions {
  /** The disk that is to be described. */
  readonly disk: number;
  readonly sizeBytes: number;
  /** The bytes of an extent header of kind `disk`: what to compare with. */
  readonly header: Uint8Array;
  /** Source k of the header is sources[k]. */
  readonly sources: readonly number[];
  /** An empty file, open for writing; gets the pages that differ and are not zero. */
  readonly output: number;
}

export interface DiskDiff {
  /** What differs, sorted by page, neighbours merged. */
  readonly runs: MemoryRun[];
  readonly bytesWritten: number;
  /** CRC-32C of the output. */
  readonly crc32c: number;
}

/**
 * Compares a disk with another one, byte by byte, and writes the pages that differ. Holes on both sides are not read. The
 * output is not synced. Descriptors are borrowed until the call settles.
 * @throws {NativeError} `native_ebadmsg` for a broken header, `native_enodata` for a source that is too short,
 *   `native_enospc`
 */
export async function diffDisk(options: DiskDiffOptions): Promise<DiskDiff> {
  const header = new Uint8Array(options.header); // own copy: aligned, and not changed while the thread reads it
  const input = new DataView(new ArrayBuffer(32));
  input.setBigUint64(0, BigInt(options.sizeBytes), true);
  input.setBigUint64(8, BigInt(header.byteLength), true);
  input.setUint32(16, options.sources.length, true);
  input.setInt32(20, options.disk, true);
  input.setInt32(24, options.output, true);
  const sources = Int32Array.from(options.sources.length ? options.sources : [-1]);
  const result = new BigUint64Array(6);
  const call = native().torpor_disk_diff(input.buffer, header, sources, result);
  check("diffDisk", await keepingAlive(call, input, header, sources, result));
  return {
    runs: takeRuns(result[0]!, Number(result[1]!)),
    bytesWritten: Number(result[2]!),
    crc32c: Number(result[5]!),
  };
}

/** Where a sparse file has data (`outputOffset`: its place in this file) and where holes, in whole pages and in order. */
export async function dataRuns(fd: number, sizeBytes: number): Promise<MemoryRun[]> {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % PAGE_SIZE) {
    throw invalidArgument("dataRuns", "sizeBytes is no positive multiple of the page size");
  }
  const result = new BigUint64Array(6);
  check("dataRuns", await keepingAlive(native().torpor_data_runs(fd, BigInt(sizeBytes), result), result));
  return takeRuns(result[0]!, Number(result[1]!));
}

/** Bytes to copy from one of several files. */
export interface CopyRange {
  /** Index into the sources. */
  readonly source: number;
  readonly sourceOffset: number;
  readonly targetOffset: number;
  readonly length: number;
}

/**
 * Copies ranges of files into another one, sharing blocks where the file system can. Not synced. Descriptors are borrowed
 * until the call settles.
 * @returns bytes copied or shared.
 * @throws {NativeError} `native_enodata` when a source ends inside a range, `native_enospc`
 */
export async function copyRanges(
  sources: readonly number[],
  ranges: readonly CopyRange[],
  target: number,
): Promise<number> {
  const descriptors = Int32Array.from(sources.length ? sources : [-1]);
  const fields = new BigUint64Array(Math.max(4 * ranges.length, 4));
  ranges.forEach(({ source, sourceOffset, targetOffset, length }, index) => {
    fields.set([BigInt(source), BigInt(sourceOffset), BigInt(targetOffset), BigInt(length)], 4 * index);
  });
  const copied = new BigUint64Array(1);
  const call = native().torpor_copy_ranges(
    descriptors,
    sources.length,
    fields,
    BigInt(ranges.length),
    target,
    copied,
  );
  check("copyRanges", await keepingAlive(call, descriptors, fields, copied));
  return Number(copied[0]!);
}
