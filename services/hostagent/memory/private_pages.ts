import { exportProcess, type ExportResult, type GuestRange, privatePages } from "@torpor/ffi";
import { type ExtentTable, PAGE_BYTES } from "@torpor/snapshot";
import type { Vmm } from "../vmm/driver.ts";
import { dataPages, differentPages } from "./different_pages.ts";
import { mappedAddress } from "./guest_address.ts";
import { GuestMemory } from "./guest_memory.ts";
import { Sibling } from "./sibling.ts";
import { andInto, countBits, orInto } from "./tracking/bitmap.ts";
import type { VmPager } from "./vm_pager.ts";

/** What a sibling's pages are compared with. */
export interface SiblingParent {
  /** Of the snapshot that the next one is the difference to. */
  parent: ExtentTable;
  /** Of the base. */
  base: ExtentTable;
  /** Which of these pages are not what the parent says. */
  compare(pages: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
}

/**
 * Pages of a sibling that differ from its parent snapshot or may. What it shares with the base is what the parent says: where
 * the parent says something else, the sibling has a page of its own, put over the base at the resume or stored by a
 * checkpoint. Of those only a comparison tells which were written since.
 */
export async function privateDirtyPages(
  range: GuestRange,
  { parent, base, compare }: SiblingParent,
): Promise<Uint8Array<ArrayBuffer>> {
  const { own, zero } = await privatePages(range);
  const known = differentPages(parent, base);
  andInto(known, own);
  const dirty = own.map((byte, at) => byte & ~known[at]!);
  if (countBits(known) > 0) orInto(dirty, await compare(known));
  // A page of zeros has changed only where the parent has bytes.
  const data = dataPages(parent);
  andInto(zero, data);
  orInto(dirty, zero);
  return dirty;
}

/** The RAM of a sibling: a private mapping in its VMM. The memory file that the VMM was given stays empty. */
export class PrivateMemory extends GuestMemory {
  /** In the VMM. */
  readonly address: bigint;
  readonly #vmmPid: number;

  private constructor(memory: GuestMemory, vmmPid: number, address: bigint) {
    super(memory.handOver(), memory.sizeBytes);
    this.#vmmPid = vmmPid;
    this.address = address;
  }

  /**
   * The memory of a VMM that has mapped it; `memory`, the file that it was given, stays what it is for any but a sibling.
   * @throws TorporError as {@linkcode mappedAddress}.
   */
  static async ofSibling(memory: GuestMemory, vmm: Vmm, pager: VmPager): Promise<GuestMemory> {
    if (!(pager instanceof Sibling)) return memory;
    const { pid } = vmm.process;
    // Not from the pager's statistics: it may not have read the VMM's message yet, and a base that is filled needs no pager.
    const address = await mappedAddress(pid, pager.base.memoryFd, memory.sizeBytes);
    return new PrivateMemory(memory, pid, address);
  }

  /** Pages of this sandbox alone, those of the VMM itself included. */
  override get pagesResident(): number {
    const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${this.#vmmPid}/status`))?.[1];
    return Number(kilobytes ?? 0) * 1024 / PAGE_BYTES;
  }

  /** @param pages what {@linkcode privateDirtyPages} has named: any other could wait for the pager. */
  override async exportPages(pages: Uint8Array<ArrayBuffer> | null, output: number): Promise<ExportResult> {
    const range = { pid: this.#vmmPid, address: this.address, sizeBytes: this.sizeBytes };
    return await exportProcess(range, pages ?? new Uint8Array(Math.ceil(this.pagesTotal / 8)).fill(255), output);
  }
}
