/** Reading, writing and syncing by descriptor. Descriptors are borrowed: the caller keeps them open until the call settles. @module */
import { check, NativeError } from "./errors.ts";
import { cString, keepingAlive, native } from "./library.ts";

const EIO = 5;

/** Flushes data and metadata of an open file to the disk. */
export async function fsync(fd: number): Promise<void> {
  check("fsync", await native().torpor_fsync(fd));
}

/** Flushes a file or a directory by its path. */
export async function fsyncPath(path: string): Promise<void> {
  const text = cString("fsyncPath", path);
  check("fsyncPath", await keepingAlive(native().torpor_fsync_path(text), text), path);
}

/** Reads into `into` from `offset` (bytes). Returns the bytes read: fewer than asked only at the end of the file. */
export async function pread(fd: number, into: Uint8Array<ArrayBuffer>, offset: number): Promise<number> {
  const call = native().torpor_pread(fd, into, BigInt(into.byteLength), BigInt(offset));
  return check("pread", await keepingAlive(call, into));
}

/** As {@linkcode pread}, at once: for memory files and /proc, where nothing waits. */
export function preadSync(fd: number, into: Uint8Array<ArrayBuffer>, offset: number): number {
  return check("preadSync", native().torpor_pread_now(fd, into, BigInt(into.byteLength), BigInt(offset)));
}

/** Writes all of `from` at `offset` (bytes). After a failure a part may have been written. */
export async function pwrite(fd: number, from: Uint8Array<ArrayBuffer>, offset: number): Promise<void> {
  const call = native().torpor_pwrite(fd, from, BigInt(from.byteLength), BigInt(offset));
  const written = check("pwrite", await keepingAlive(call, from));
  if (written !== from.byteLength) throw new NativeError("pwrite", EIO, { detail: "short write" });
}

/** Length of an open file in bytes. */
export function sizeBytes(fd: number): number {
  return check("sizeBytes", native().torpor_size_bytes(fd));
}

/** Bytes that the file takes on its file system, or in memory for a memfd: holes do not count. */
export function allocatedBytes(fd: number): number {
  return check("allocatedBytes", native().torpor_allocated_bytes(fd));
}

/** Makes [offset, offset + length) (bytes) a hole; the size stays. */
export function punchHole(fd: number, offset: number, length: number): void {
  check("punchHole", native().torpor_punch_hole(fd, BigInt(offset), BigInt(length)));
}
