import type { Span } from "@opentelemetry/api";
import { type Descriptor, fsync, openFile } from "@torpor/ffi";
import { log, measure } from "@torpor/telemetry";
import { type MemorySaver, Precopy } from "../memory/precopy.ts";
import { StoppedCopy } from "../memory/stopped_copy.ts";
import { StagedSnapshot } from "../snapshot/staging.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { syncPath } from "../storage/durable_file.ts";
import { createEmptyDisk } from "../storage/disk.ts";
import { explainFailedWrite } from "../storage/disk_full.ts";
import { hasReflinks } from "../storage/reflink.ts";
import { ReflinkCopy } from "../storage/reflink_copy.ts";
import type { DiskCopy } from "../vmm/driver.ts";
import { commitSnapshot, type StoredMemory } from "./commit_snapshot.ts";
import { type HostContext, step } from "./context.ts";
import { freezeGuest, thawGuest } from "./guest_hooks.ts";
import { goOn, keepGoing, scan } from "./pause_vm.ts";
import type { SandboxRecord } from "./record.ts";
import type { ParentSnapshot, RunningVm } from "./running_vm.ts";

/** The snapshot that a checkpoint makes. */
export interface CheckpointRequest {
  snapshotId: string;
  /** For people; may be empty. */
  name: string;
  /** Writes the record: a restarted agent must know that marks of written pages have been taken. */
  save(): Promise<void>;
}

/** A committed checkpoint. */
export interface Checkpoint {
  snapshot: FoundSnapshot;
  /** How long the vCPUs stood still, microseconds. */
  stoppedUs: number;
}

/** What a checkpoint works with. */
interface Run {
  context: HostContext;
  record: SandboxRecord;
  vm: RunningVm;
  staged: StagedSnapshot;
  files: { state: Descriptor; data: Descriptor; disk: Descriptor };
  saver: MemorySaver;
}

/**
 * Saves a running VM as a kept snapshot while it goes on: memory, devices and disk are from the same moment, at which the
 * vCPUs stood still for a short time. Disk and memory are copied while the guest runs, and what it writes meanwhile again;
 * the vCPUs stop for the device state and for what is left.
 *
 * Whether it succeeds or fails, the VM runs on (unless the VM itself is gone). After a success the checkpoint is the VM's
 * parent: its next snapshot stores only what was written since. After a failure nothing is left of the checkpoint, and the
 * next snapshot is as if it had not been tried. The caller saves the record.
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
  try {
    return await takeCheckpoint(context, record, vm, request, signal);
  } catch (error) {
    // A VMM whose own write found the disk full has stopped. Nothing is left of the checkpoint by now: there is room.
    if (!vm.ended) await keepGoing(context, record.sandbox_id, vm);
    throw error;
  }
}

async function takeCheckpoint(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  request: CheckpointRequest,
  signal: AbortSignal,
): Promise<Checkpoint> {
  const { parent } = vm;
  await using staged = await StagedSnapshot.create(context.layout, request.snapshotId);
  const { paths } = staged;
  await createEmptyDisk(paths.disk, record.disk_size_mb * 2 ** 20);
  using disk = openFile(paths.disk, { read: true, write: true });
  using state = createFile(paths.state);
  using data = createFile(paths.memoryData);
  if (vm.tracking === "pagemap_scan") {
    vm.marks.beginTaking(vm.memory.pagesTotal / 8);
    record.vm = vm.record;
    await request.save();
  }
  using saver = await memorySaver(context, vm, data.fd);
  const run: Run = { context, record, vm, staged, files: { state, data, disk }, saver };
  const stopped = await atOneMoment(run, signal).catch(async (error) => {
    // QEMU closes what it was sent only while its guest runs: a full disk gets its room back before that.
    await Deno.truncate(paths.disk);
    throw error;
  });
  signal.throwIfAborted();
  const taken = await step(
    context,
    record.sandbox_id,
    "checkpoint.commit",
    () => commit(run, request, parent, stopped),
  );
  vm.parent = taken;
  vm.marks.restart(saver.removed);
  record.vm = vm.record;
  measure("torpor.checkpoint.stop.duration", stopped.us / 1e6, {});
  return { snapshot: { manifest: taken.manifest, sources: taken.table.sources }, stoppedUs: stopped.us };
}

function createFile(path: string): Descriptor {
  return openFile(path, { read: true, write: true, create: true, exclusive: true });
}

async function memorySaver(context: HostContext, vm: RunningVm, output: number): Promise<MemorySaver> {
  if (vm.tracking !== "pagemap_scan") return new StoppedCopy(vm.memory, () => scan(context, vm), output);
  const { memory, tracking, marks, parent } = vm;
  const vmmPid = vm.vmm.process.pid;
  // Another pager may take the place of one that was killed.
  const tracked = {
    memory,
    vmmPid,
    tracking,
    marks,
    parent,
    get pager() {
      return vm.pager;
    },
  };
  return await Precopy.start(tracked, context.layout, output);
}

/** How long the vCPUs stood still, and what took memory then. */
interface Stopped {
  us: number;
  resident: number;
}

/** Copies while the guest runs, then stops it for what must be of one moment. The guest runs afterwards. */
async function atOneMoment(run: Run, signal: AbortSignal): Promise<Stopped> {
  const { context, record: { sandbox_id: id }, vm, saver } = run;
  await using copy = await step(context, id, "checkpoint.copy_disk", (span) => copyDisk(run, signal, span));
  await step(context, id, "checkpoint.copy_memory", async (span) => {
    await context.copySlots.with(() => saver.run(signal));
    span.setAttribute("torpor.pages.rounds", saver.rounds.map(String));
  });
  // The VMM flushes its disks when it stops: little is left for that then, also on a slow disk.
  await step(context, id, "checkpoint.sync_disk", () => syncPath(context.layout.sandbox(id).disk));
  await vm.vmm.prepareDeviceState();
  signal.throwIfAborted();
  try {
    await freezeGuest(context, id, vm, signal);
    const began = performance.now();
    await step(context, id, "checkpoint.stop", () => vm.vmm.stopVcpus());
    const resident = await whileStopped(run, copy);
    await step(context, id, "checkpoint.go_on", () => vm.vmm.startVcpus());
    return { us: Math.round((performance.now() - began) * 1000), resident };
  } catch (error) {
    log("warn", "checkpoint_failed", { sandbox_id: id }, error);
    await goOn(context, id, vm);
    throw error;
  } finally {
    await thawGuest(context, id, vm);
  }
}

/**
 * Begins to copy the disk and returns when the copy is in step with it. By shared blocks where the file system can: nothing
 * is written twice then.
 */
async function copyDisk(
  { context: { layout }, record, vm, staged, files }: Run,
  signal: AbortSignal,
  span: Span,
): Promise<DiskCopy> {
  const output = files.disk.fd;
  const reflink = await hasReflinks(staged.paths.directory);
  span.setAttribute("torpor.disk.copy", reflink ? "reflink" : "mirror");
  await using starting = new AsyncDisposableStack();
  const copy = starting.use(
    reflink
      ? new ReflinkCopy(layout.sandbox(record.sandbox_id).disk, output, record.disk_size_mb * 2 ** 20)
      : await vm.vmm.copyDisk(output),
  );
  await abortable(copy.inStep, signal);
  starting.move();
  return copy;
}

/** Returns the pages that take memory. */
async function whileStopped(run: Run, copy: DiskCopy): Promise<number> {
  const { context, record: { sandbox_id: id }, vm, files, saver, staged } = run;
  // Before the device state: saving that makes the VMM let go of its disks.
  await step(context, id, "checkpoint.disk", () => copy.finish());
  await step(context, id, "checkpoint.device_state", async () => {
    await vm.vmm.saveDeviceState(files.state.fd)
      .catch((error) => explainFailedWrite(staged.paths.directory, error));
  });
  await step(context, id, "checkpoint.last_round", async (span) => {
    await saver.lastRound();
    span.setAttribute("torpor.pages", saver.rounds.at(-1)!);
  });
  return vm.memory.pagesResident;
}

/** Completes and syncs the files, and commits. The guest runs meanwhile. */
async function commit(
  { context, record, vm, staged, files, saver }: Run,
  { name }: CheckpointRequest,
  parent: ParentSnapshot | undefined,
  { resident }: Stopped,
): Promise<ParentSnapshot> {
  const { runs, bytesWritten, crc32c, dataPages, zeroPages } = await context.copySlots.with(() => saver.finish());
  for (const file of Object.values(files)) await fsync(file.fd);
  const { sizeBytes } = vm.memory;
  const memory: StoredMemory = { sizeBytes, runs, file: { bytes: bytesWritten, crc32c }, dataPages, zeroPages };
  const { size, blocks } = await Deno.stat(staged.paths.disk);
  const disk = { bytes: size, allocated_bytes: (blocks ?? 0) * 512 };
  const state = await staged.stateFile();
  const parts = { kind: "kept" as const, name, parent, state, memory, disk, resident };
  return await commitSnapshot(context, record, vm, staged, parts);
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
