import type { Span } from "@opentelemetry/api";
import { newId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import { dirtyPages, type TrackedMemory } from "../memory/dirty_pages.ts";
import { reportPager } from "../memory/report_pager.ts";
import { type CheckedFile, StagedSnapshot } from "../snapshot/staging.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { explainFailedWrite } from "../storage/disk_full.ts";
import { type HostContext, step } from "./context.ts";
import { commitSnapshot, dirtyPageCount, type StoredMemory } from "./commit_snapshot.ts";
import type { SandboxRecord } from "./record.ts";
import type { ParentSnapshot, RunningVm } from "./running_vm.ts";

/**
 * Saves a running VM as a snapshot, as one transaction. When it returns, the snapshot is committed and the vCPUs stand
 * still for good; releasing the VM is left to the caller. When it throws, nothing was committed, nothing is left in
 * `staging`, and the vCPUs run again (unless the VM itself is gone).
 *
 * The order is: stop, device state, dirty pages, memory, disk, commit. Dirty pages are read after the device state, as
 * the VMM writes to guest memory while it saves; the disk is taken while the vCPUs stand still, so that memory and disk
 * are from the same moment.
 * @throws whatever failed: TorporError of the VMM (`vm_gone`, `deadline_exceeded`), NativeError or Deno.errors of files.
 */
export async function pauseVm(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  signal: AbortSignal,
): Promise<FoundSnapshot> {
  const id = record.sandbox_id;
  await using staged = await StagedSnapshot.create(context.layout, newId());
  try {
    await step(context, id, "pause.stop", () => vm.vmm.stopVcpus());
    return await takeSnapshot(context, record, vm, staged, signal);
  } catch (error) {
    // A committed snapshot must never be overtaken by the VM that it was taken from.
    if (!staged.committed) await goOn(context, id, vm);
    throw error;
  }
}

/** Lets the VM go on if it stands still. Never throws. */
export async function keepGoing(context: HostContext, id: string, vm: RunningVm): Promise<void> {
  const running = await vm.vmm.isRunning().catch((error) => {
    log("warn", "vm_status_unknown", { sandbox_id: id }, error);
    return false;
  });
  if (!running) await goOn(context, id, vm);
}

/** Lets the VM go on after a failed pause or a checkpoint. One that cannot is ended: it would stand still for ever. */
export async function goOn(context: HostContext, id: string, vm: RunningVm): Promise<void> {
  try {
    await step(context, id, "pause.go_on", () => vm.vmm.startVcpus());
  } catch (error) {
    log("error", "vm_could_not_go_on", { sandbox_id: id }, error);
    vm.killedFor ??= vm.ended ? "vm_gone" : "pause_failed";
    await vm.vmm.process[Symbol.asyncDispose]();
  }
}

async function takeSnapshot(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  staged: StagedSnapshot,
  signal: AbortSignal,
): Promise<FoundSnapshot> {
  const id = record.sandbox_id;
  const state = await step(context, id, "pause.device_state", (span) => saveDeviceState(vm, staged, span));
  signal.throwIfAborted();
  const resident = vm.memory.pagesResident;
  if (vm.pager) reportPager("pager.serve", vm);
  const dirty = await step(context, id, "pause.dirty_scan", () => scan(context, vm));
  const memory = await step(context, id, "pause.export_memory", (span) => saveMemory(context, vm, staged, dirty, span));
  signal.throwIfAborted();
  const disk = await step(context, id, "pause.disk", async (span) => {
    const linked = await staged.linkDisk(context.layout.sandbox(id).disk);
    span.setAttribute("torpor.bytes", linked.allocated_bytes);
    return linked;
  });
  signal.throwIfAborted();
  return await step(context, id, "pause.commit", async () => {
    const parts = { kind: "generation" as const, name: "", parent: vm.parent, state, memory, disk, resident };
    const { manifest, table } = await commitSnapshot(context, record, vm, staged, parts);
    return { manifest, sources: table.sources };
  });
}

/** Writes the device state of a stopped VM. */
export async function saveDeviceState(vm: RunningVm, staged: StagedSnapshot, span: Span): Promise<CheckedFile> {
  await staged.writeFile(
    staged.paths.state,
    (fd) => vm.vmm.saveDeviceState(fd).catch((error) => explainFailedWrite(staged.paths.directory, error)),
  );
  const file = await staged.stateFile();
  span.setAttribute("torpor.bytes", file.bytes);
  return file;
}

/** Writes pages of a stopped VM: those of `dirty`, or all of them (null). */
export async function saveMemory(
  context: HostContext,
  vm: RunningVm,
  staged: StagedSnapshot,
  dirty: Uint8Array<ArrayBuffer> | null,
  span: Span,
): Promise<StoredMemory> {
  const { sizeBytes } = vm.memory;
  const result = await staged.writeFile(
    staged.paths.memoryData,
    (output) => context.copySlots.with(() => vm.memory.exportPages(dirty, output)),
  );
  const { runs, bytesWritten, crc32c, dataPages, zeroPages } = result;
  const memory = { sizeBytes, runs, file: { bytes: bytesWritten, crc32c }, dataPages, zeroPages };
  span.setAttributes({ "torpor.bytes": bytesWritten, "torpor.pages.dirty": dirtyPageCount(vm.parent, memory) });
  return memory;
}

/** Changed pages, or null for all of them when there is no parent. */
export async function scan(context: HostContext, vm: RunningVm): Promise<Uint8Array<ArrayBuffer> | null> {
  return vm.parent ? await dirtyPages(trackedMemory(vm, vm.parent), context.layout) : null;
}

/** What {@linkcode dirtyPages} looks at. */
export function trackedMemory(vm: RunningVm, parent: ParentSnapshot): TrackedMemory {
  const { memory, pager, tracking, marks } = vm;
  return { memory, pager, vmmPid: vm.vmm.process.pid, tracking, marks, parent };
}
