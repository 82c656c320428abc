import { allocatedBytes, Descriptor, exportMemory, type ExportResult, memfdCreate, PAGE_SIZE } from "@torpor/ffi";

/**
 * The RAM of one VM: a memory file that the agent and the VMM share. Only pread and SEEK_DATA may touch it from here: a
 * read through a mapping would fill a hole with zeros that the pager should have filled.
 */
export class GuestMemory implements Disposable {
  readonly sizeBytes: number;
  readonly #descriptor: Descriptor;

  /** Takes over `descriptor`. */
  constructor(descriptor: Descriptor, sizeBytes: number) {
    this.#descriptor = descriptor;
    this.sizeBytes = sizeBytes;
  }

  /** Empty memory for a VM that boots or is restored. */
  static create(sandboxId: string, memoryMb: number): GuestMemory {
    const sizeBytes = memoryMb * 2 ** 20;
    return new GuestMemory(memfdCreate(`torpor-${sandboxId}`, sizeBytes), sizeBytes);
  }

  /** Borrowed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** All pages that the guest can have. */
  get pagesTotal(): number {
    return this.sizeBytes / PAGE_SIZE;
  }

  /** Pages that take host memory now. */
  get pagesResident(): number {
    return allocatedBytes(this.fd) / PAGE_SIZE;
  }

  /**
   * Writes pages to an empty file: only those that are not zero, packed. The vCPUs must be stopped.
   * @param pages a bitmap, or null for all. @throws NativeError.
   */
  async exportPages(pages: Uint8Array<ArrayBuffer> | null, output: number): Promise<ExportResult> {
    return await exportMemory({ memfd: this.fd, sizeBytes: this.sizeBytes, dirty: pages, output });
  }

  /** Gives the memory file away; this object is of no use any more. */
  handOver(): Descriptor {
    return new Descriptor(this.#descriptor.release());
  }

  [Symbol.dispose](): void {
    this.#descriptor.close();
  }
}
