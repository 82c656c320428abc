/** What only snapshots' files need. @module */
import { check } from "./errors.ts";
import { cString, native } from "./library.ts";

/**
 * CRC-32C (Castagnoli) of a file's first bytes. The descriptor is borrowed until the call settles.
 * @throws {NativeError} `native_enodata` when the file is shorter
 */
export async function fileCrc32c(fd: number, lengthBytes: number): Promise<number> {
  return check("fileCrc32c", await native().torpor_file_crc32c(fd, BigInt(lengthBytes)));
}

/**
 * Two paths of one file system swap what they name, in one step: whoever looks, also after a crash, finds each of the two
 * under one of the names. Neither directory is synced.
 * @throws {NativeError} `native_enoent`, `native_einval` where the file system cannot
 */
export function exchange(one: string, other: string): void {
  const paths = [cString("exchange", one), cString("exchange", other)] as const;
  check("exchange", native().torpor_exchange(...paths));
}
