import { fileIdentity } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import type { GuestMemory } from "./guest_memory.ts";

/** Where a VMM has mapped the guest's memory. @throws TorporError as {@linkcode mappedAddress}. */
export async function guestAddress(vmmPid: number, memory: GuestMemory): Promise<bigint> {
  return await mappedAddress(vmmPid, memory.fd, memory.sizeBytes);
}

/**
 * Where a process has mapped a memory file, found by its inode.
 * @throws TorporError `internal` when the process maps it not at all, or not whole.
 */
export async function mappedAddress(pid: number, fd: number, sizeBytes: number): Promise<bigint> {
  const { inode } = fileIdentity(fd);
  for (const line of (await Deno.readTextFile(`/proc/${pid}/maps`)).split("\n")) {
    const [range, , offset, , lineInode] = line.split(/\s+/, 5);
    // Memory files all have the same device; inode 0 is no file.
    if (lineInode !== String(inode) || !line.includes("/memfd:")) continue;
    const [start, end] = range!.split("-").map((text) => BigInt(`0x${text}`)) as [bigint, bigint];
    if (end - start === BigInt(sizeBytes) && Number(offset) === 0) return start;
  }
  throw new TorporError("internal", "the VMM does not map the guest's memory as it should");
}
