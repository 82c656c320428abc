import { copySparse, openFile } from "@torpor/ffi";
import type { DiskCopy } from "../vmm/driver.ts";

/** A copy of a live disk by shared blocks, made at the stopped instant: it takes a moment, whatever the disk's size. */
export class ReflinkCopy implements DiskCopy {
  readonly inStep = Promise.resolve();
  readonly #disk: string;
  readonly #output: number;
  readonly #sizeBytes: number;

  /** @param disk path of the live disk. @param output an empty file on the same file system, open for reading and writing. */
  constructor(disk: string, output: number, sizeBytes: number) {
    this.#disk = disk;
    this.#output = output;
    this.#sizeBytes = sizeBytes;
  }

  /** The file system writes back what is not on the disk yet: sync it before. @throws NativeError, as `native_enospc`. */
  async finish(): Promise<void> {
    using disk = openFile(this.#disk, { read: true });
    await copySparse({ from: disk.fd, to: this.#output, sizeBytes: this.#sizeBytes });
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
