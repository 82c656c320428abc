import { TorporError } from "@torpor/errors";
import type { Manifest } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { verifySnapshot } from "../snapshot/committed.ts";
import { releaseSnapshots } from "../snapshot/release.ts";
import { StagedSnapshot } from "../snapshot/staging.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { checkpointVm } from "./checkpoint_vm.ts";
import { type HostContext, step } from "./context.ts";
import { requireSoundDisk } from "./disk_fault.ts";
import { hostError } from "./host_error.ts";
import { roomForCheckpoint } from "./room.ts";
import type { Sandbox } from "./sandbox.ts";

/** A kept snapshot that is to be made. */
export interface SnapshotSpec {
  snapshotId: string;
  name: string;
}

/** A kept snapshot that was made. */
export interface MadeSnapshot {
  snapshot: FoundSnapshot;
  /** How long the vCPUs stood still, microseconds; 0 for a paused sandbox. */
  stoppedUs: number;
}

/**
 * Keeps a snapshot of a sandbox, which goes on as it was: a running one stops only for a moment, a paused one shares its
 * newest generation. The same id again gives the snapshot that there is. Lock held by the caller.
 * @throws TorporError `already_exists` when the id is that of another snapshot, `conflict`, `snapshot_failed`, `no_space`,
 *   `snapshot_corrupt`, `snapshot_missing`, and what the VMM reports (the VM runs on).
 */
export async function createSnapshot(
  context: HostContext,
  sandbox: Sandbox,
  spec: SnapshotSpec,
  signal: AbortSignal,
): Promise<MadeSnapshot> {
  const made = findMade(context, sandbox.id, spec.snapshotId);
  if (made) return made;
  using _reserved = await context.kept.reserve(spec.snapshotId);
  const before = sandbox.snapshots;
  let result: MadeSnapshot;
  try {
    const { vm, record } = sandbox;
    if (vm) requireSoundDisk(vm);
    using _room = vm && await roomForCheckpoint(context, record, vm);
    result = vm
      ? await checkpointVm(context, record, vm, { ...spec, save: () => sandbox.save(context.layout) }, signal)
      : { snapshot: await keepNewest(context, sandbox, spec), stoppedUs: 0 };
    context.kept.add(result.snapshot);
  } catch (thrown) {
    throw hostError(thrown, "snapshot_failed", "the snapshot could not be made");
  }
  await releaseFormer(context, sandbox, before);
  return result;
}

/** A checkpoint has become what the VM's memory is a difference to; what was that before may have been deleted. */
async function releaseFormer(context: HostContext, sandbox: Sandbox, before: FoundSnapshot[]): Promise<void> {
  if (!sandbox.vm) return;
  try {
    // A restarted agent must not look for the former one.
    await sandbox.save(context.layout);
    await releaseSnapshots(context.layout, context.references, before);
  } catch (error) {
    log("warn", "snapshots_not_released", { sandbox_id: sandbox.id }, error);
  }
}

/**
 * What an earlier call with this id has made of the sandbox.
 * @throws TorporError `already_exists` when the snapshot is of another sandbox.
 */
export function findMade({ kept }: HostContext, sandboxId: string, snapshotId: string): MadeSnapshot | undefined {
  const snapshot = kept.find(snapshotId);
  if (!snapshot) return undefined;
  if (snapshot.manifest.sandbox_id === sandboxId) return { snapshot, stoppedUs: 0 };
  throw new TorporError("already_exists", `snapshot ${snapshotId} is of another sandbox`, { field: "snapshot_id" });
}

/** No byte is copied: a generation's files never change, and its data stays while a table reads it. */
async function keepNewest(context: HostContext, sandbox: Sandbox, spec: SnapshotSpec): Promise<FoundSnapshot> {
  const { newest, record } = sandbox;
  if (record.state !== "paused" || !newest) {
    throw new TorporError("conflict", `a sandbox that is ${record.state} has nothing to keep`);
  }
  return await step(context, sandbox.id, "snapshot.link", async () => {
    const { layout } = context;
    using _pin = context.references.pin(newest);
    const { manifest, table } = await verifySnapshot(layout, newest.manifest.snapshot_id, context.damage);
    await using staged = await StagedSnapshot.create(layout, spec.snapshotId);
    await staged.linkSnapshot(layout.snapshot(manifest.snapshot_id));
    const kept: FoundSnapshot = {
      manifest: {
        ...manifest,
        kind: "kept",
        name: spec.name,
        snapshot_id: spec.snapshotId,
        parent_id: manifest.snapshot_id,
        created_at: new Date().toISOString(),
        files: withoutOwnData(manifest.files),
        pages: { ...manifest.pages, dirty: 0 },
      },
      sources: table.sources,
      diskSources: newest.diskSources,
    };
    await staged.commit(kept.manifest);
    return kept;
  });
}

/** What the new snapshot has in common with the one that it links to is read there. */
function withoutOwnData(files: Manifest["files"]): Manifest["files"] {
  const empty = { bytes: 0, crc32c: 0 };
  const { header } = files.disk.difference ?? {};
  const disk = header ? { ...files.disk, allocated_bytes: 0, difference: { header, data: empty } } : files.disk;
  return { ...files, memory_data: empty, disk };
}
