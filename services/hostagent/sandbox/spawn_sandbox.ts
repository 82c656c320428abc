import { TorporError } from "@torpor/errors";
import type { Manifest } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { releaseSnapshots } from "../snapshot/release.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { bringUpSandbox, type CreateEvents, type NewSandbox, type SandboxShape } from "./bring_up.ts";
import type { HostContext } from "./context.ts";
import { resumeVm } from "./resume_vm.ts";
import { roomForResume } from "./room.ts";
import type { Sandbox } from "./sandbox.ts";

/** What a sandbox that is spawned from a kept snapshot is to be. 0 and empty stand for the snapshot's values. */
export interface SpawnSpec {
  snapshotId: string;
  template: string;
  vcpus: number;
  memoryMb: number;
  diskSizeMb: number;
}

/**
 * Creates a sandbox that goes on where a kept snapshot was taken. It is somebody else: own record, own disk, own entropy.
 * Its first pause is its generation 1, which stores what changed since the snapshot. On failure nothing of it is left, and
 * the snapshot is as it was.
 * @throws TorporError `snapshot_not_found`, `snapshot_mismatch` naming the field, `no_space`, and as `resumeVm`.
 */
export async function spawnSandbox(
  context: HostContext,
  wanted: NewSandbox,
  spec: SpawnSpec,
  signal: AbortSignal,
  events: CreateEvents,
): Promise<Sandbox> {
  const snapshot = context.kept.get(spec.snapshotId);
  const shape = bakedShape(spec, snapshot.manifest);
  try {
    // It may be deleted while the VM starts; from then on the VM itself refers to it.
    using _pin = context.references.pin(snapshot);
    using _room = await roomForResume(context, snapshot.manifest);
    return await bringUpSandbox(
      context,
      wanted,
      shape,
      async (record, onStarted) => {
        return (await resumeVm(context, record, spec.snapshotId, onStarted, signal)).vm;
      },
      events,
      "resume_failed",
    );
  } catch (error) {
    if (!context.kept.find(spec.snapshotId)) await releaseDeleted(context, snapshot);
    throw error;
  }
}

/** The deletion has left to this spawn what it needed. */
async function releaseDeleted({ layout, references }: HostContext, snapshot: FoundSnapshot): Promise<void> {
  try {
    await releaseSnapshots(layout, references, [snapshot]);
  } catch (error) {
    log("warn", "snapshots_not_released", { snapshot_id: snapshot.manifest.snapshot_id }, error);
  }
}

/** What the snapshot's device state was saved with: it fits no other machine. */
function bakedShape(spec: SpawnSpec, manifest: Manifest): SandboxShape {
  const { template, vcpus, memory_mb, disk_size_mb, base_image } = manifest;
  requireBaked("template", spec.template || template, template);
  requireBaked("vcpus", spec.vcpus || vcpus, vcpus);
  requireBaked("memory_mb", spec.memoryMb || memory_mb, memory_mb);
  requireBaked("disk_size_mb", spec.diskSizeMb || disk_size_mb, disk_size_mb);
  return {
    template,
    vcpus,
    memoryMb: memory_mb,
    diskSizeMb: disk_size_mb,
    baseImage: base_image,
    baseSnapshotId: manifest.snapshot_id,
  };
}

function requireBaked(field: string, wanted: string | number, baked: string | number): void {
  if (wanted === baked) return;
  throw new TorporError("snapshot_mismatch", `${field} of this snapshot is ${baked} and cannot be changed`, {
    field,
    hint: `leave ${field} out, or set it to ${baked}`,
  });
}
