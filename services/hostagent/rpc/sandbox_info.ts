import { create } from "@bufbuild/protobuf";
import {
  type HookOutcome as HookOutcomeMessage,
  HookOutcomeSchema,
  type KeptSnapshot,
  KeptSnapshotSchema,
  type SandboxInfo,
  SandboxInfoSchema,
  type SnapshotInfo,
  SnapshotInfoSchema,
} from "@torpor/proto/hostagent";
import { type Manifest, storedBytes } from "@torpor/snapshot";
import { type FoundSnapshot, isDamaged } from "../snapshot/sweep.ts";
import type { HookOutcome } from "../sandbox/guest_hooks.ts";
import type { Stamp } from "../sandbox/change_log.ts";
import type { Sandbox } from "../sandbox/sandbox.ts";

/** A sandbox as the contract has it. */
export function sandboxInfo(sandbox: Sandbox): SandboxInfo {
  const { record, vm, newest } = sandbox;
  return create(SandboxInfoSchema, {
    sandboxId: sandbox.id,
    status: sandbox.status,
    template: record.template,
    vcpus: record.vcpus,
    memoryMb: record.memory_mb,
    diskSizeMb: record.disk_size_mb,
    timeoutSec: record.timeout_sec,
    createdAtUnix: seconds(record.created_at_ms),
    lastActiveAtUnix: seconds(Date.now() - sandbox.unusedForMs),
    unusedForMs: BigInt(Math.round(sandbox.unusedForMs)),
    version: BigInt(record.version),
    operationId: record.operation?.operation_id ?? "",
    snapshot: newest && snapshotInfo(newest.manifest),
    accelerator: vm?.accelerator ?? "",
    reason: sandbox.reason,
    guestStopped: sandbox.guestStoppedFor !== undefined,
    uniqueBytes: BigInt(sandbox.stored.unique),
    sharedBytes: BigInt(sandbox.stored.shared),
    networkRevision: BigInt(record.network.revision),
  });
}

/** Changes whenever {@linkcode sandboxInfo} does; much cheaper. The record's revision grows with each write of it. */
export function inventoryStamp(sandbox: Sandbox): Stamp {
  const { record, vm, newest } = sandbox;
  return [
    sandbox.status,
    record.revision,
    sandbox.reason,
    sandbox.guestStoppedFor,
    record.version,
    record.operation?.operation_id,
    newest?.manifest.snapshot_id,
    vm?.accelerator,
    lastUsedAt(sandbox),
    sandbox.stored.unique,
    sandbox.stored.shared,
  ];
}

/** By the monotonic clock. What is in use changes every second: the reconciler's idle sweep would else pause under it. */
function lastUsedAt(sandbox: Sandbox): bigint {
  return seconds(performance.now() - sandbox.unusedForMs);
}

/** A snapshot as the contract has it. */
export function snapshotInfo(manifest: Manifest): SnapshotInfo {
  return create(SnapshotInfoSchema, {
    snapshotId: manifest.snapshot_id,
    generation: manifest.generation,
    sizeBytes: BigInt(storedBytes(manifest)),
    memoryBytes: BigInt(manifest.files.memory_data.bytes),
    pagesResident: BigInt(manifest.pages.resident),
    pagesDirty: BigInt(manifest.pages.dirty),
    pagesData: BigInt(manifest.pages.data),
    createdAtUnixMs: BigInt(Date.parse(manifest.created_at)),
    diskBytes: BigInt(manifest.files.disk.allocated_bytes),
  });
}

/** A kept snapshot as the contract has it. */
export function keptSnapshot(found: FoundSnapshot): KeptSnapshot {
  const { manifest } = found;
  return create(KeptSnapshotSchema, {
    snapshot: snapshotInfo(manifest),
    name: manifest.name,
    sandboxId: manifest.sandbox_id,
    template: manifest.template,
    vcpus: manifest.vcpus,
    memoryMb: manifest.memory_mb,
    diskSizeMb: manifest.disk_size_mb,
    reason: isDamaged(found) ? "snapshot_corrupt" : "",
    uniqueBytes: BigInt(found.stored?.unique ?? 0),
    sharedBytes: BigInt(found.stored?.shared ?? 0),
  });
}

/** Changes whenever what {@linkcode keptSnapshot} says does: its manifest is written once, but for what compaction moves. */
export function keptSnapshotStamp(found: FoundSnapshot): Stamp {
  const { manifest, stored } = found;
  const { memory_data, disk } = manifest.files;
  return [isDamaged(found), memory_data.bytes, disk.allocated_bytes, stored?.unique, stored?.shared];
}

function seconds(ms: number): bigint {
  return BigInt(Math.floor(ms / 1000));
}

/** A hook around a pause as the contract shows it. */
export function hookOutcome(hook: HookOutcome): HookOutcomeMessage {
  return create(HookOutcomeSchema, {
    step: hook.step,
    outcome: hook.outcome,
    errorNumber: hook.errno,
    durationUs: BigInt(hook.durationUs),
    bytesTrimmed: BigInt(hook.bytesTrimmed),
    freeBytesBefore: BigInt(hook.freeBytesBefore),
    freeBytesAfter: BigInt(hook.freeBytesAfter),
  });
}
