import { exportMemory, type ExportResult } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { dataBytes, type Manifest, MANIFEST_SCHEMA, overlayTable, PAGE_BYTES } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { dirtyPages } from "../memory/dirty_pages.ts";
import { keepWorkingSet } from "../memory/working_sets.ts";
import { reportPager } from "../memory/report_pager.ts";
import { type CheckedFile, StagedSnapshot } from "../snapshot/staging.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { type HostContext, step } from "./context.ts";
import type { SandboxRecord } from "./record.ts";
import type { RunningVm } from "./running_vm.ts";
import { workingSetOf } from "./working_set.ts";

/** The agent protocol of snapshots taken now (protocol_version in proto/guest/v1). */
const AGENT_PROTOCOL = 1;

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

/** Lets the VM go on after a failed pause. One that cannot is ended: it would stand still for ever. */
async function goOn(context: HostContext, id: string, vm: RunningVm): Promise<void> {
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
  const { paths } = staged;
  const state = await step(context, id, "pause.device_state", async (span) => {
    await staged.writeFile(paths.state, (fd) => vm.vmm.saveDeviceState(fd));
    const file = await staged.stateFile();
    span.setAttribute("torpor.bytes", file.bytes);
    return file;
  });
  signal.throwIfAborted();
  const resident = vm.memory.pagesResident;
  if (vm.pager) reportPager("pager.serve", vm);
  const dirty = await step(context, id, "pause.dirty_scan", () => scan(context, vm));
  const exported = await step(context, id, "pause.export_memory", async (span) => {
    const result = await staged.writeFile(
      paths.memoryData,
      (output) =>
        context.copySlots.with(() =>
          exportMemory({ memfd: vm.memory.fd, sizeBytes: vm.memory.sizeBytes, dirty, output })
        ),
    );
    span.setAttributes({ "torpor.bytes": result.bytesWritten, "torpor.pages.dirty": dirtyCount(vm, result) });
    return result;
  });
  signal.throwIfAborted();
  const disk = await step(context, id, "pause.disk", async (span) => {
    const linked = await staged.linkDisk(context.layout.sandbox(id).disk);
    span.setAttribute("torpor.bytes", linked.allocated_bytes);
    return linked;
  });
  signal.throwIfAborted();
  return await step(context, id, "pause.commit", async () => {
    const snapshot = await describe(context, record, vm, staged, { state, exported, disk, resident });
    const touched = workingSetOf(vm);
    if (touched) await keepWorkingSet(paths.workingSet, touched, record.memory_mb);
    await staged.commit(snapshot.manifest);
    return snapshot;
  });
}

/** Changed pages, or null for all of them when there is no parent. */
async function scan(context: HostContext, vm: RunningVm): Promise<Uint8Array<ArrayBuffer> | null> {
  const { pager, parent, memory, tracking } = vm;
  if (!pager || !parent) return null;
  const parentId = parent.manifest.snapshot_id;
  const vmmPid = vm.vmm.process.pid;
  return await dirtyPages({ memory, pager, vmmPid, tracking, parentId, parent: parent.table }, context.layout);
}

interface Parts {
  state: CheckedFile;
  exported: ExportResult;
  disk: { bytes: number; allocated_bytes: number };
  resident: number;
}

/** Writes the extent table and returns the manifest that will commit everything. */
async function describe(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  staged: StagedSnapshot,
  { state, exported, disk, resident }: Parts,
): Promise<FoundSnapshot> {
  const { snapshotId } = staged;
  const generation = (vm.parent?.manifest.generation ?? 0) + 1;
  const table = overlayTable(vm.parent?.table, {
    snapshotId,
    kind: "memory",
    generation,
    sizeBytes: vm.memory.sizeBytes,
    runs: exported.runs,
  });
  const header = await staged.writeHeader(table);
  const manifest: Manifest = {
    schema: MANIFEST_SCHEMA,
    kind: "generation",
    name: "",
    snapshot_id: snapshotId,
    sandbox_id: record.sandbox_id,
    parent_id: vm.parent?.manifest.snapshot_id ?? null,
    generation,
    created_at: new Date().toISOString(),
    vmm: context.driver.identity,
    vcpus: record.vcpus,
    memory_mb: record.memory_mb,
    disk_size_mb: record.disk_size_mb,
    template: record.template,
    base_image: record.base_image,
    agent_protocol: AGENT_PROTOCOL,
    files: {
      state,
      memory_header: header,
      memory_data: { bytes: exported.bytesWritten, crc32c: exported.crc32c },
      disk,
    },
    pages: { resident, dirty: dirtyCount(vm, exported), data: dataBytes(table) / PAGE_BYTES },
  };
  return { manifest, sources: table.sources };
}

/** Without a parent every zero page is listed, but none of them changed. */
function dirtyCount(vm: RunningVm, exported: ExportResult): number {
  return exported.dataPages + (vm.parent ? exported.zeroPages : 0);
}
