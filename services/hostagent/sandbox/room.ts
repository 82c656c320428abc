import { dataBytes, type Manifest, PAGE_BYTES } from "@torpor/snapshot";
import { readDiskTable } from "../snapshot/committed.ts";
import { statIfPresent } from "../storage/durable_file.ts";
import type { HostContext } from "./context.ts";
import { hostError } from "./host_error.ts";
import { scan } from "./pause_vm.ts";
import type { SandboxRecord } from "./record.ts";
import type { RunningVm } from "./running_vm.ts";

/** An empty file system, its record, logs. */
const NEW_SANDBOX_BYTES = 16 * 2 ** 20;
/** Device state, headers and manifest of a snapshot without much of an extent table. */
const SNAPSHOT_BYTES = 2 * 2 ** 20;
/** What a page may need in an extent table. */
const EXTENT_BYTES = 32;

/** Room for a sandbox that boots. @throws TorporError `no_space`. */
export async function roomForNew({ space }: HostContext): Promise<Disposable | undefined> {
  return await space?.claim(NEW_SANDBOX_BYTES, { mayUseReserve: false });
}

/** Room for the live disk of what is resumed or spawned: a copy, unless blocks are shared. @throws TorporError `no_space`. */
export async function roomForResume(
  { space, layout, reflinks }: HostContext,
  manifest: Manifest,
): Promise<Disposable | undefined> {
  if (!space) return undefined;
  const table = await readDiskTable(layout, manifest);
  const whole = table ? undefined : await statIfPresent(layout.snapshot(manifest.snapshot_id).disk);
  const bytes = reflinks ? 0 : table ? dataBytes(table) : (whole?.blocks ?? 0) * 512;
  return await space.claim(NEW_SANDBOX_BYTES + bytes, { mayUseReserve: false });
}

/**
 * Room for what a pause will store: its memory. The disk becomes a second name for what is there already. What the guest
 * still writes before it stops is not foreseen.
 * @throws TorporError `no_space`, `pause_failed`.
 */
export async function roomForPause(context: HostContext, vm: RunningVm): Promise<Disposable | undefined> {
  const { space } = context;
  if (!space) return undefined;
  const most = snapshotBytes(vm.memory.pagesResident);
  const options = { mayUseReserve: true };
  if (most <= await space.room(options)) return await space.claim(most, options);
  // Most of it may be the parent's: looking takes time, so only now.
  return await space.claim(snapshotBytes(await changedPages(context, vm)), options);
}

/** Room for a checkpoint: memory, and a copy of the disk unless blocks are shared. @throws TorporError `no_space`. */
export async function roomForCheckpoint(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
): Promise<Disposable | undefined> {
  const { space, layout, reflinks } = context;
  if (!space) return undefined;
  const disk = reflinks ? undefined : await statIfPresent(layout.sandbox(record.sandbox_id).disk);
  const diskBytes = (disk?.blocks ?? 0) * 512;
  const options = { mayUseReserve: false };
  const most = snapshotBytes(vm.memory.pagesResident) + diskBytes;
  if (most <= await space.room(options)) return await space.claim(most, options);
  return await space.claim(snapshotBytes(await changedPages(context, vm)) + diskBytes, options);
}

function snapshotBytes(pages: number): number {
  return SNAPSHOT_BYTES + pages * (PAGE_BYTES + EXTENT_BYTES);
}

/** How many pages are not as in the parent now. */
async function changedPages(context: HostContext, vm: RunningVm): Promise<number> {
  try {
    const changed = await scan(context, vm);
    return changed ? changed.reduce((sum, byte) => sum + BITS[byte]!, 0) : vm.memory.pagesResident;
  } catch (thrown) {
    // The pause itself will say so.
    if (vm.ended) return 0;
    throw hostError(thrown, "pause_failed", "what the sandbox has changed could not be found out");
  }
}

const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);
