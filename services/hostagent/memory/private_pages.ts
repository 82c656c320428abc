import { exportProcess, type ExportResult, type GuestRange, privatePages } from "@torpor/ffi";
import { type ExtentTable, PAGE_BYTES, ZERO_SOURCE } from "@torpor/snapshot";
import { TorporError } from "@torpor/errors";
import type { Vmm } from "../vmm/driver.ts";
import { GuestMemory } from "./guest_memory.ts";
import { Sibling } from "./sibling.ts";
import type { VmPager } from "./vm_pager.ts";

/**
 * Pages of a sibling that differ from its parent snapshot or may. What it has in common with the base is what the parent
 * says: the parent is the base's snapshot, or a checkpoint of this VM, which stored what was its own by then.
 */
export async function privateDirtyPages(range: GuestRange, parent: ExtentTable): Promise<Uint8Array<ArrayBuffer>> {
  const { own, zero } = await privatePages(range);
  // A page of zeros has changed only where the parent has bytes.
  const data = dataPages(parent);
  for (let at = 0; at < own.length; at++) own[at]! |= zero[at]! & data[at]!;
  return own;
}

/** Pages that are not zero, as far as the table says. */
export function dataPages(table: ExtentTable): Uint8Array<ArrayBuffer> {
  const pages = new Uint8Array(Math.ceil(table.sizeBytes / PAGE_BYTES / 8));
  for (let extent = 0; extent < table.count; extent++) {
    if (table.sourceIndexes[extent] === ZERO_SOURCE) continue;
    const first = table.offsets[extent]! / PAGE_BYTES;
    const end = first + table.lengths[extent]! / PAGE_BYTES;
    for (let page = first; page < end; page++) pages[page >> 3]! |= 1 << (page & 7);
  }
  return pages;
}

/** The RAM of a sibling: a private mapping in its VMM. The memory file that the VMM was given stays empty. */
export class PrivateMemory extends GuestMemory {
  readonly #vmmPid: number;
  readonly #address: bigint;

  private constructor(memory: GuestMemory, vmmPid: number, address: bigint) {
    super(memory.handOver(), memory.sizeBytes);
    this.#vmmPid = vmmPid;
    this.#address = address;
  }

  /**
   * The memory of a VMM that has loaded its device state; `memory`, the file that it was given, stays what it is for any
   * but a sibling.
   */
  static ofSibling(memory: GuestMemory, vmm: Vmm, pager: VmPager): GuestMemory {
    if (!(pager instanceof Sibling)) return memory;
    const { baseHostVirtAddr: address } = pager.stats();
    if (!address) throw new TorporError("internal", "the VMM has not mapped the base");
    return new PrivateMemory(memory, vmm.process.pid, address);
  }

  /** Pages of this sandbox alone, those of the VMM itself included. */
  override get pagesResident(): number {
    const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${this.#vmmPid}/status`))?.[1];
    return Number(kilobytes ?? 0) * 1024 / PAGE_BYTES;
  }

  /** @param pages what {@linkcode privateDirtyPages} has named: any other could wait for the pager. */
  override async exportPages(pages: Uint8Array<ArrayBuffer> | null, output: number): Promise<ExportResult> {
    const range = { pid: this.#vmmPid, address: this.#address, sizeBytes: this.sizeBytes };
    return await exportProcess(range, pages ?? new Uint8Array(Math.ceil(this.pagesTotal / 8)).fill(255), output);
  }
}
