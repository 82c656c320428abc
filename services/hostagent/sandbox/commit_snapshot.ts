import {
  dataBytes,
  type ExtentTable,
  type Manifest,
  MANIFEST_SCHEMA,
  overlayTable,
  PAGE_BYTES,
} from "@torpor/snapshot";
import type { MemoryRun } from "@torpor/ffi";
import { keepWorkingSet } from "../memory/working_sets.ts";
import { PROTOCOL_VERSION } from "../guest/limits.ts";
import type { CheckedFile, StagedSnapshot } from "../snapshot/staging.ts";
import type { HostContext } from "./context.ts";
import type { SandboxRecord } from "./record.ts";
import type { ParentSnapshot, RunningVm } from "./running_vm.ts";
import { countSnapshot } from "./snapshot_metrics.ts";
import { workingSetOf } from "./working_set.ts";

/** What was written to the staging directory. */
export interface SnapshotParts {
  /** One of the states that a sandbox rests in, or one that stays until it is deleted by its id. */
  kind: Manifest["kind"];
  name: string;
  /** What the memory is stored as the difference to; undefined: it is stored whole. */
  parent: ParentSnapshot | undefined;
  state: CheckedFile;
  memory: StoredMemory;
  disk: { bytes: number; allocated_bytes: number };
  /** Pages that took memory of the host. */
  resident: number;
}

/** `memory.data` of a new snapshot. */
export interface StoredMemory {
  sizeBytes: number;
  /** Sorted; without a parent they cover everything. */
  runs: MemoryRun[];
  file: CheckedFile;
  dataPages: number;
  zeroPages: number;
}

/** Writes what describes the staged files (extent table, working set, manifest) and commits the snapshot. */
export async function commitSnapshot(
  context: HostContext,
  record: SandboxRecord,
  vm: RunningVm,
  staged: StagedSnapshot,
  parts: SnapshotParts,
): Promise<ParentSnapshot> {
  const { parent, memory } = parts;
  const { snapshotId } = staged;
  // A sandbox that was spawned from another one's snapshot counts from 1.
  const own = parent?.manifest.sandbox_id === record.sandbox_id ? parent.manifest.generation : 0;
  const generation = own + 1;
  const { sizeBytes, runs } = memory;
  const table = overlayTable(parent?.table, { snapshotId, kind: "memory", generation, sizeBytes, runs });
  const header = await staged.writeHeader(table);
  const touched = workingSetOf(vm);
  if (touched) await keepWorkingSet(staged.paths.workingSet, touched, record.memory_mb);
  const manifest = describe(context, record, staged, parts, header, table);
  await staged.commit(manifest);
  countSnapshot(manifest);
  return { manifest, table };
}

function describe(
  context: HostContext,
  record: SandboxRecord,
  { snapshotId }: StagedSnapshot,
  { kind, name, parent, state, memory, disk, resident }: SnapshotParts,
  header: CheckedFile,
  table: ExtentTable,
): Manifest {
  return {
    schema: MANIFEST_SCHEMA,
    kind,
    name,
    snapshot_id: snapshotId,
    sandbox_id: record.sandbox_id,
    parent_id: parent?.manifest.snapshot_id ?? null,
    generation: table.generation,
    created_at: new Date().toISOString(),
    vmm: context.driver.identity,
    vcpus: record.vcpus,
    memory_mb: record.memory_mb,
    disk_size_mb: record.disk_size_mb,
    template: record.template,
    base_image: record.base_image,
    agent_protocol: PROTOCOL_VERSION,
    files: { state, memory_header: header, memory_data: memory.file, disk },
    pages: { resident, dirty: dirtyPageCount(parent, memory), data: dataBytes(table) / PAGE_BYTES },
  };
}

/** Without a parent every zero page is listed, but none of them changed. */
export function dirtyPageCount(parent: ParentSnapshot | undefined, memory: StoredMemory): number {
  return memory.dataPages + (parent ? memory.zeroPages : 0);
}
