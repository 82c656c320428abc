import { compareDirty, openFile, presentPages, scanDirty } from "@torpor/ffi";
import type { ExtentTable } from "@torpor/snapshot";
import type { Layout } from "../storage/layout.ts";
import type { GuestMemory } from "./guest_memory.ts";
import type { Pager } from "./pager.ts";

/** A resumed VM's memory and what it was resumed from. */
export interface ResumedMemory {
  memory: GuestMemory;
  pager: Pager;
  vmmPid: number;
  /** The kernel has remembered writes since the resume. */
  tracking: boolean;
  parentId: string;
  parent: ExtentTable;
}

/**
 * Pages that differ from the parent snapshot or may: a bitmap, least significant bit first. The vCPUs must be stopped and
 * the device state saved, as saving it writes to guest memory.
 */
export async function dirtyPages(resumed: ResumedMemory, layout: Layout): Promise<Uint8Array<ArrayBuffer>> {
  const { memory, pager, tracking } = resumed;
  const dirty = tracking ? await scanWritten(resumed) : await compareWithParent(resumed, layout);
  // A hole that nobody gave back was never loaded: it still is what the parent says, whatever the page tables say. Stored
  // as written it would become zeros.
  const present = await presentPages(memory.fd, memory.sizeBytes);
  // A page that the guest gave back is a hole again: neither way of looking sees it, and it is zero now.
  const removed = pager.removedPages();
  for (let at = 0; at < dirty.length; at++) dirty[at] = (dirty[at]! & present[at]!) | (removed[at] ?? 0);
  return dirty;
}

async function scanWritten(resumed: ResumedMemory): Promise<Uint8Array<ArrayBuffer>> {
  return await scanDirty({
    pid: resumed.vmmPid,
    address: resumed.pager.stats().baseHostVirtAddr,
    sizeBytes: resumed.memory.sizeBytes,
  });
}

async function compareWithParent(resumed: ResumedMemory, layout: Layout): Promise<Uint8Array<ArrayBuffer>> {
  using opened = new DisposableStack();
  const sources = resumed.parent.sources.map((id) =>
    opened.use(openFile(layout.snapshot(id).memoryData, { read: true })).fd
  );
  const header = await Deno.readFile(layout.snapshot(resumed.parentId).memoryHeader);
  return await compareDirty({ memfd: resumed.memory.fd, sizeBytes: resumed.memory.sizeBytes, header, sources });
}
