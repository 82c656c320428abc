/** Writing guest memory out while the guest runs. @module */
import { check, invalidArgument, NativeError } from "./errors.ts";
import { keepingAlive, native } from "./library.ts";
import { type ExportResult, pageBitmap, takeExportResult } from "./memory.ts";

export interface MemoryCopyOptions {
  /** The guest's memfd, or `/proc/<pid>/mem` with the guest's memory at `memoryOffset`. */
  readonly memory: number;
  readonly memoryOffset?: bigint;
  readonly sizeBytes: number;
  /** An empty file, open for reading and writing. */
  readonly output: number;
}

/**
 * A packed copy of pages that is corrected as long as it takes: pages written after their copy are copied again, into the same place.
 * Both descriptors are borrowed until it is disposed. One call at a time.
 */
export class MemoryCopy implements Disposable {
  readonly #sizeBytes: number;
  #copy: Deno.PointerValue;
  #busy = false;

  private constructor(copy: Deno.PointerValue, sizeBytes: number) {
    this.#copy = copy;
    this.#sizeBytes = sizeBytes;
  }

  /** @throws {NativeError} `native_enomem`, `native_einval` */
  static async start({ memory, memoryOffset = 0n, sizeBytes, output }: MemoryCopyOptions): Promise<MemoryCopy> {
    pageBitmap("MemoryCopy.start", sizeBytes);
    const copy = await native().torpor_precopy_start(memory, memoryOffset, BigInt(sizeBytes), output);
    if (!copy) throw new NativeError("MemoryCopy.start", 12, { detail: "memory for the copy" });
    return new MemoryCopy(copy, sizeBytes);
  }

  /**
   * Copies these pages as they are now, and returns how many. A page that is written meanwhile must be in a later round: arm the
   * tracking before. After a failure (`native_enospc`, …) only disposing is possible.
   *
   * @param options.hold keeps them in memory, as far as they fit, and leaves writing to `finish`: for a guest that stands still
   */
  async round(pages: Uint8Array<ArrayBuffer>, options: { hold?: boolean } = {}): Promise<number> {
    const needed = pageBitmap("MemoryCopy.round", this.#sizeBytes).byteLength;
    if (pages.byteLength < needed) {
      throw invalidArgument("MemoryCopy.round", `pages has ${pages.byteLength} bytes, not ${needed}`);
    }
    return await this.#exclusively(async (copy) => {
      const call = native().torpor_precopy_round(copy, pages, options.hold ? 1 : 0);
      return check("MemoryCopy.round", await keepingAlive(call, pages));
    });
  }

  /**
   * Writes what was held and lists every page that was ever copied, with its last content. The output is not synced. Once.
   *
   * @param options.complete lists all other pages as zero
   */
  async finish(options: { complete: boolean }): Promise<ExportResult> {
    return await this.#exclusively(async (copy) => {
      const result = new BigUint64Array(6);
      const call = native().torpor_precopy_finish(copy, options.complete ? 1 : 0, result);
      check("MemoryCopy.finish", await keepingAlive(call, result));
      return takeExportResult(result);
    });
  }

  /** Not while a call is under way: its thread uses the memory. */
  async #exclusively<T>(work: (copy: Deno.PointerValue) => Promise<T>): Promise<T> {
    if (!this.#copy || this.#busy) throw invalidArgument("MemoryCopy", this.#busy ? "it is in use" : "it was disposed");
    this.#busy = true;
    try {
      return await work(this.#copy);
    } finally {
      this.#busy = false;
    }
  }

  [Symbol.dispose](): void {
    if (this.#busy) throw invalidArgument("MemoryCopy", "it is in use");
    if (this.#copy) native().torpor_precopy_free(this.#copy);
    this.#copy = null;
  }
}
