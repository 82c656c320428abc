import {
  clearSoftDirty,
  compareDirty,
  compareProcess,
  keepPresent,
  presentPages,
  scanDirty,
  softDirtyPages,
} from "@torpor/ffi";
import { type ExtentTable, type Manifest, PAGE_BYTES, ZERO_SOURCE } from "@torpor/snapshot";
import type { Layout } from "../storage/layout.ts";
import { guestAddress } from "./guest_address.ts";
import type { GuestMemory } from "./guest_memory.ts";
import { orInto } from "./tracking/bitmap.ts";
import { privateDirtyPages, PrivateMemory } from "./private_pages.ts";
import { Sibling } from "./sibling.ts";
import { openStored } from "./stored_memory.ts";
import { removedSince } from "./tracking/removed_since.ts";
import type { VmTracking } from "./tracking/method.ts";
import type { WriteMarks } from "./tracking/write_marks.ts";
import type { VmPager } from "./vm_pager.ts";

/** A VM's memory, the snapshot that its next one is the difference to, and what is known of its writes since. */
export interface TrackedMemory {
  memory: GuestMemory;
  /** Absent: nothing is loaded lazily, so that a hole is zero. */
  pager: VmPager | undefined;
  vmmPid: number;
  tracking: VmTracking;
  marks: WriteMarks;
  parent: { manifest: Manifest; table: ExtentTable };
}

/**
 * Pages that differ from the parent snapshot or may: a bitmap, least significant bit first. The vCPUs must be stopped and
 * the device state saved, as saving it writes to guest memory.
 */
export async function dirtyPages(tracked: TrackedMemory, layout: Layout): Promise<Uint8Array<ArrayBuffer>> {
  const { memory, pager, marks } = tracked;
  if (pager instanceof Sibling) return await dirtyPagesOfSibling(tracked, pager, layout);
  if (!marks.complete || tracked.tracking !== "pagemap_scan") return await differingPages(tracked, layout);
  const dirty = await takeWritten(tracked, await addressOf(tracked), { protect: false });
  if (marks.taken) {
    const taken = marks.taken.slice();
    if (pager) await keepPresent(memory.fd, memory.sizeBytes, taken);
    orInto(dirty, taken);
  }
  if (pager) orInto(dirty, removedSince(pager, marks.removed).removed);
  return dirty;
}

async function dirtyPagesOfSibling(
  tracked: TrackedMemory,
  { base }: Sibling,
  layout: Layout,
): Promise<Uint8Array<ArrayBuffer>> {
  const { memory, parent, vmmPid: pid } = tracked;
  const range = { pid, address: await addressOf(tracked), sizeBytes: memory.sizeBytes };
  const compare = async (pages: Uint8Array<ArrayBuffer>) => {
    using stored = await openStored(layout, parent);
    return await compareProcess(range, { header: stored.header, sources: stored.sources, pages });
  };
  return await privateDirtyPages(range, { parent: parent.table, base: base.table, compare });
}

/** Pages that the kernel has marked as written. @param options.protect arms them again. */
export async function takeWritten(
  { memory, pager, vmmPid }: Pick<TrackedMemory, "memory" | "pager" | "vmmPid">,
  address: bigint,
  { protect }: { protect: boolean },
): Promise<Uint8Array<ArrayBuffer>> {
  // With a pager, a hole that nobody gave back was never loaded: it still is what the parent says, whatever the page table
  // says, and stored as written it would become zeros. Without one a hole is zero.
  const memfd = pager ? memory.fd : undefined;
  return await scanDirty({ pid: vmmPid, address, sizeBytes: memory.sizeBytes, protect, memfd });
}

/** Pages whose content is not the parent's. */
export async function differingPages(tracked: TrackedMemory, layout: Layout): Promise<Uint8Array<ArrayBuffer>> {
  const { memory, pager, parent } = tracked;
  const dirty = await compareWithParent(tracked, layout, await softDirtyCandidates(tracked));
  // A page that the guest gave back is a hole again, which a comparison does not look at, and it is zero now.
  if (pager) orInto(dirty, pager.removedPages());
  else orInto(dirty, zeroedPages(parent.table, await presentPages(memory.fd, memory.sizeBytes)));
  return dirty;
}

/** What a comparison can be limited to; undefined: it cannot. */
async function softDirtyCandidates(tracked: TrackedMemory): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const { memory, marks, tracking, vmmPid } = tracked;
  // Swapping drops marks with the page table's entries.
  if (tracking !== "soft_dirty" || !marks.complete || await hostSwaps()) return undefined;
  return await softDirtyPages({ pid: vmmPid, address: await addressOf(tracked), sizeBytes: memory.sizeBytes });
}

/** Where the VMM has mapped the guest's memory. */
export async function addressOf({ memory, pager, vmmPid }: Omit<TrackedMemory, "parent">): Promise<bigint> {
  if (memory instanceof PrivateMemory) return memory.address;
  // A pager that has not read the VMM's message yet says 0.
  return pager?.stats().baseHostVirtAddr || await guestAddress(vmmPid, memory);
}

/** @param candidates looks at these only. */
async function compareWithParent(
  { memory, parent }: TrackedMemory,
  layout: Layout,
  candidates?: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  using stored = await openStored(layout, parent);
  const { header, sources } = stored;
  return await compareDirty({ memfd: memory.fd, sizeBytes: memory.sizeBytes, header, sources, candidates });
}

/** Starts the marks of a VMM that is about to run. */
export async function startMarks(tracking: VmTracking, vmmPid: number): Promise<void> {
  // For pagemap_scan the VMM itself has armed its memory.
  if (tracking === "soft_dirty") await clearSoftDirty(vmmPid);
}

/** Pages of which the parent has bytes, and the memory has none any more. */
function zeroedPages(parent: ExtentTable, present: Uint8Array): Uint8Array<ArrayBuffer> {
  const zeroed = new Uint8Array(present.length);
  for (let extent = 0; extent < parent.count; extent++) {
    if (parent.sourceIndexes[extent] === ZERO_SOURCE) continue;
    const first = parent.offsets[extent]! / PAGE_BYTES;
    const end = first + parent.lengths[extent]! / PAGE_BYTES;
    for (let page = first; page < end; page++) zeroed[page >> 3]! |= ~present[page >> 3]! & (1 << (page & 7));
  }
  return zeroed;
}

async function hostSwaps(): Promise<boolean> {
  // One line is the heading.
  return (await Deno.readTextFile("/proc/swaps")).trim().split("\n").length > 1;
}
