import { openFile } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { StagedSnapshot } from "../snapshot/staging.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { createEmptyDisk } from "../storage/disk.ts";
import { syncPath } from "../storage/durable_file.ts";
import type { DiskCopy } from "../vmm/driver.ts";
import { type HostContext, step } from "./context.ts";
import { commitSnapshot, type SnapshotParts } from "./commit_snapshot.ts";
import { goOn, saveDeviceState, saveMemory, scan } from "./pause_vm.ts";
import type { SandboxRecord } from "./record.ts";
import type { RunningVm } from "./running_vm.ts";

/** The snapshot that a checkpoint makes. */
export interface CheckpointRequest {
  snapshotId: string;
  /** For people; may be empty. */
  name: string;
}

/** A committed checkpoint. */
export interface Checkpoint {
  snapshot: FoundSnapshot;
  /** How long the vCPUs stood still, microseconds. */
  stoppedUs: number;
}

/**
 * Saves a running VM as a kept snapshot while it goes on: memory, devices and disk are from the same moment, at which the
 * vCPUs stood still for a short time. Whether it succeeds or fails, the VM runs on (unless the VM itself is gone), and
 * after a failure nothing is left of the checkpoint.
 * @throws whatever failed: TorporError of the VMM (`vm_gone`, `deadline_exceeded`), NativeError or Deno.errors of files;
 *   the signal's reason.
 */
export async function checkpointVm(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  request: CheckpointRequest,
  signal: AbortSignal,
): Promise<Checkpoint> {
  const id = record.sandbox_id;
  await using staged = await StagedSnapshot.create(context.layout, request.snapshotId);
  await createEmptyDisk(staged.paths.disk, record.disk_size_mb * 2 ** 20);
  using disk = openFile(staged.paths.disk, { read: true, write: true });
  const { parts, stoppedUs } = await atOneMoment(context, record, vm, staged, disk.fd, signal);
  signal.throwIfAborted();
  return await step(context, id, "checkpoint.commit", async () => {
    await syncPath(staged.paths.disk);
    const { size, blocks } = await Deno.stat(staged.paths.disk);
    const { manifest, table } = await commitSnapshot(context, record, vm, staged, {
      ...parts,
      kind: "kept",
      name: request.name,
      disk: { bytes: size, allocated_bytes: (blocks ?? 0) * 512 },
    });
    return { snapshot: { manifest, sources: table.sources }, stoppedUs };
  });
}

type MomentParts = Omit<SnapshotParts, "kind" | "name" | "disk">;

/** Copies the disk while the guest runs, then stops it for everything else. */
async function atOneMoment(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  staged: StagedSnapshot,
  diskFd: number,
  signal: AbortSignal,
): Promise<{ parts: MomentParts; stoppedUs: number }> {
  const id = record.sandbox_id;
  await using copy = await step(context, id, "checkpoint.copy_disk", async () => {
    await using starting = new AsyncDisposableStack();
    const copy = starting.use(await vm.vmm.copyDisk(diskFd));
    await abortable(copy.inStep, signal);
    starting.move();
    return copy;
  });
  const began = performance.now();
  try {
    await step(context, id, "checkpoint.stop", () => vm.vmm.stopVcpus());
    const parts = await whileStopped(context, record, vm, staged, copy);
    await step(context, id, "checkpoint.go_on", () => vm.vmm.startVcpus());
    return { parts, stoppedUs: Math.round((performance.now() - began) * 1000) };
  } catch (error) {
    log("warn", "checkpoint_failed", { sandbox_id: id }, error);
    await goOn(context, id, vm);
    throw error;
  }
}

async function whileStopped(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  staged: StagedSnapshot,
  copy: DiskCopy,
): Promise<MomentParts> {
  const id = record.sandbox_id;
  // Before the device state: saving that makes the VMM let go of its disks.
  await step(context, id, "checkpoint.disk", () => copy.finish());
  const state = await step(context, id, "checkpoint.device_state", (span) => saveDeviceState(vm, staged, span));
  const resident = vm.memory.pagesResident;
  const dirty = await step(context, id, "checkpoint.dirty_scan", () => scan(context, vm));
  const memory = await step(
    context,
    id,
    "checkpoint.export_memory",
    (span) => saveMemory(context, vm, staged, dirty, span),
  );
  return { parent: vm.parent, state, memory, resident };
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
