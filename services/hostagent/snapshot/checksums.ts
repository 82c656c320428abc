import { constants } from "node:os";
import { crc32c, dataRuns, NativeError, openFile, pread, sizeBytes } from "@torpor/ffi";
import { type ContentHasher, type DiskSums, PAGE_BYTES, SUM_CHUNK_BYTES, sumCount } from "@torpor/snapshot";
import type { Reading } from "./pace.ts";
import type { CheckedFile } from "./staging.ts";

/** EUCLEAN, which node:os does not list: the file system has found its own checksum wrong. */
const EUCLEAN = 117;
const { EIO, ENODATA, EBADMSG } = constants.errno;
/** What a damaged disk or file system answers; ENODATA: the file ended early. */
const UNREADABLE: number[] = [EIO, ENODATA, EBADMSG, EUCLEAN];

/**
 * Length and checksum of a file's bytes as they are now.
 * @param hasher takes the bytes, too.
 * @returns undefined when it cannot be read to its end: it is damaged.
 * @throws NativeError `native_enoent` and for other failures; the signal's reason.
 */
export async function checksumOf(
  path: string,
  { pace, signal }: Reading,
  hasher?: ContentHasher,
): Promise<CheckedFile | undefined> {
  using file = openFile(path, { read: true });
  return await readable(async () => {
    const bytes = sizeBytes(file.fd);
    const buffer = new Uint8Array(Math.min(SUM_CHUNK_BYTES, bytes));
    let crc = 0;
    for (let at = 0; at < bytes; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, bytes - at));
      await pace.take(part.length, signal);
      await readExactly(file.fd, part, at);
      crc = crc32c(part, crc);
      await hasher?.add(part);
    }
    return { bytes, crc32c: crc };
  });
}

/**
 * Checksums of a disk, chunk by chunk. Holes are not read.
 * @param hasher takes the bytes, too.
 * @returns undefined when it cannot be read.
 * @throws as {@linkcode checksumOf}.
 */
export async function diskSumsOf(
  path: string,
  { pace, signal }: Reading,
  hasher?: ContentHasher,
): Promise<DiskSums | undefined> {
  using file = openFile(path, { read: true });
  return await readable(async () => {
    const size = sizeBytes(file.fd);
    const sums = new Uint32Array(sumCount(size));
    const buffer = new Uint8Array(Math.min(SUM_CHUNK_BYTES, size));
    const holds = await chunksWithData(file.fd, size);
    const zeros = size < SUM_CHUNK_BYTES ? 0 : crc32c(buffer);
    for (let chunk = 0; chunk < sums.length; chunk++) {
      const at = chunk * SUM_CHUNK_BYTES;
      const part = buffer.subarray(0, Math.min(buffer.length, size - at));
      if (!holds[chunk] && part.length === SUM_CHUNK_BYTES) {
        sums[chunk] = zeros;
        await hasher?.addZeros();
        continue;
      }
      await pace.take(part.length, signal);
      await readExactly(file.fd, part, at);
      sums[chunk] = crc32c(part);
      await hasher?.add(part);
    }
    return { sizeBytes: size, sums };
  });
}

/** Whether two readings of a disk are of the same bytes. */
export function sameSums(one: DiskSums, other: DiskSums): boolean {
  return one.sizeBytes === other.sizeBytes && one.sums.every((sum, index) => sum === other.sums[index]);
}

/** For each chunk whether the file system has stored something of it. */
async function chunksWithData(fd: number, size: number): Promise<Uint8Array> {
  const holds = new Uint8Array(sumCount(size));
  // The file system is asked in pages.
  if (size === 0 || size % PAGE_BYTES !== 0) return holds.fill(1);
  let at = 0;
  for (const { kind, pageCount } of await dataRuns(fd, size)) {
    const end = at + pageCount * PAGE_BYTES;
    if (kind === "data") holds.fill(1, Math.floor(at / SUM_CHUNK_BYTES), sumCount(end));
    at = end;
  }
  return holds;
}

async function readExactly(fd: number, into: Uint8Array<ArrayBuffer>, at: number): Promise<void> {
  const got = await pread(fd, into, at);
  if (got === into.length) return;
  throw new NativeError("pread", ENODATA);
}

async function readable<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof NativeError && UNREADABLE.includes(error.errno)) return undefined;
    throw error;
  }
}
