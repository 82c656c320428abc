import { type GuestRange, type Process, putPages } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import type { ExtentTable, Manifest } from "@torpor/snapshot";
import type { Layout } from "../storage/layout.ts";
import { differentPages } from "./different_pages.ts";
import { mappedAddress } from "./guest_address.ts";
import type { Sibling } from "./sibling.ts";
import { openStored } from "./stored_memory.ts";

const USERFAULTFD = "anon_inode:[userfaultfd]";

/**
 * Gives the VMM of a sandbox that goes on sharing a base the pages in which its snapshot is not what the base is. It has
 * mapped the base and has no device state yet: from the first byte of that on, it uses its memory.
 * @param snapshot in use, so that its files are not exchanged meanwhile.
 * @returns the number of pages. @throws TorporError `internal`, NativeError, Deno.errors: the VMM is then of no use.
 */
export async function putOverBase(
  layout: Layout,
  vmm: Process,
  { base }: Sibling,
  snapshot: { manifest: Manifest; table: ExtentTable },
): Promise<number> {
  const pages = differentPages(snapshot.table, base.table);
  // Not from the base's process: that may not have read the VMM's message yet.
  using userfaultfd = vmm.duplicateDescriptor(await userfaultfdOf(vmm.pid));
  const { memoryBytes: sizeBytes } = base;
  const address = await mappedAddress(vmm.pid, base.memoryFd, sizeBytes);
  const range: GuestRange = { pid: vmm.pid, address, sizeBytes };
  using stored = await openStored(layout, snapshot);
  return await putPages(range, userfaultfd.fd, { header: stored.header, sources: stored.sources, pages });
}

/** The number of the descriptor that the shim has made: the only one of its kind. */
async function userfaultfdOf(pid: number): Promise<number> {
  const found: number[] = [];
  for await (const { name } of Deno.readDir(`/proc/${pid}/fd`)) {
    if (await targetOf(`/proc/${pid}/fd/${name}`) === USERFAULTFD) found.push(Number(name));
  }
  if (found.length === 1) return found[0]!;
  throw new TorporError("internal", `the VMM has ${found.length} userfaultfds, not one`);
}

async function targetOf(link: string): Promise<string | undefined> {
  try {
    return await Deno.readLink(link);
  } catch (error) {
    // Closed since it was listed.
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
