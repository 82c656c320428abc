/** Copies of sparse files. @module */
import { check } from "./errors.ts";
import { keepingAlive, native } from "./library.ts";

export interface SparseCopyOptions {
  readonly from: number;
  /** Open for writing; its contents are replaced. */
  readonly to: number;
  /** Bytes of the result; what `from` lacks is a hole. */
  readonly sizeBytes: number;
}

export interface SparseCopyResult {
  /** `reflink`: the file system shares the blocks, whatever the size. */
  readonly method: "reflink" | "copy";
  /** Bytes of data read and written; 0 for a reflink. */
  readonly bytesCopied: number;
}

/** Copies data extents and keeps the holes. Not synced. Descriptors are borrowed until the call settles. */
export async function copySparse(options: SparseCopyOptions): Promise<SparseCopyResult> {
  const result = new BigUint64Array(2);
  const call = native().torpor_copy_sparse(options.from, options.to, BigInt(options.sizeBytes), result);
  check("copySparse", await keepingAlive(call, result));
  return { method: result[0] ? "reflink" : "copy", bytesCopied: Number(result[1]!) };
}
