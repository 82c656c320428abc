import { copySparse, openFile, type SparseCopyResult } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { findProgram } from "../host/programs.ts";

/**
 * Creates the empty writable layer of a new sandbox: a sparse file with an ext4 file system. It has no journal: after a
 * crash of the VM the disk is discarded together with the memory, never mounted again.
 * @throws TorporError `vm_start_failed`, `no_space`.
 */
export async function createWritableDisk(path: string, sizeMb: number): Promise<void> {
  const command = new Deno.Command(await findProgram("mke2fs", "e2fsprogs"), {
    args: ["-t", "ext4", "-F", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-m", "0", path, `${sizeMb}M`],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  });
  const { success, stderr } = await command.output();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim();
  throw new TorporError("vm_start_failed", "the writable disk could not be created", { cause: new Error(reason) });
}

/** Creates the file of a live disk at its full size, so that a VMM can open it while it is being filled. */
export async function createEmptyDisk(path: string, sizeBytes: number): Promise<void> {
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  await file.truncate(sizeBytes);
}

/** Fills the live disk from a snapshot's: shared blocks where the file system has reflinks, else a copy of the data. */
export async function fillDisk(from: string, to: string, sizeBytes: number): Promise<SparseCopyResult> {
  using source = openFile(from, { read: true });
  using target = openFile(to, { read: true, write: true });
  return await copySparse({ from: source.fd, to: target.fd, sizeBytes });
}
