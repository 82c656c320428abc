import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type HookOutcome,
  type KeptSnapshotRow,
  operationTraceId,
  type SandboxRow,
  type SandboxState as RowState,
  type SpanRow,
  type TraceRow,
} from "@torpor/db";
import type { FileInfo as HostFile, ProcessInfo } from "@torpor/proto/hostagent";
import type { Host as SchedulerHost } from "@torpor/proto/scheduler";
import {
  type FileInfoSchema,
  type HookOutcomeSchema,
  type HostSchema,
  type OperationSchema,
  type ProcessSchema,
  type Sandbox,
  SandboxSchema,
  SandboxState,
  type SnapshotSchema,
  type TraceSpanSchema,
  type TraceSummarySchema,
} from "@torpor/proto/torpor";
import type { ShownOperation } from "../handlers/operations.ts";
import type { Caller } from "../keys/caller.ts";

const STATES: Record<RowState, SandboxState> = {
  pending: SandboxState.PENDING,
  starting: SandboxState.STARTING,
  running: SandboxState.RUNNING,
  pausing: SandboxState.PAUSING,
  paused: SandboxState.PAUSED,
  resuming: SandboxState.RESUMING,
  snapshotting: SandboxState.SNAPSHOTTING,
  lost: SandboxState.LOST,
  failed: SandboxState.FAILED,
  deleting: SandboxState.DELETING,
  deleted: SandboxState.DELETED,
};

const STATE_NAMES = new Map(Object.entries(STATES).map(([name, value]) => [value, name]));

/** The state's name in inputs; an unknown number stays one, for the validation to refuse. */
export function stateName(state: SandboxState): string {
  return STATE_NAMES.get(state) ?? String(state);
}

/** What opens the ports of a sandbox that is not public, for answers to keys that may change it. */
export function trafficTokenOf(row: SandboxRow): string {
  return row.publicTraffic ? "" : row.trafficToken;
}

/** A sandbox as torpor.v1 shows it. The environment is not shown: it can hold secrets. */
export function sandboxMessage(row: SandboxRow): Sandbox {
  return create(SandboxSchema, {
    sandboxId: row.id,
    state: STATES[row.state],
    reason: row.reason,
    template: row.template,
    vcpus: row.vcpus,
    memoryMb: row.memoryMb,
    diskSizeMb: row.diskSizeMb,
    timeoutSec: row.timeoutSec,
    autoDeleteAfterSec: row.autoDeleteAfterSec,
    ttlSec: row.ttlSec,
    onTtl: row.onTtl,
    expiresAt: row.expiresAt ? timestampFromDate(row.expiresAt) : undefined,
    metadata: row.metadata,
    hostId: row.hostId ?? "",
    accelerator: row.accelerator,
    version: row.version,
    operationId: row.operationId ?? "",
    createdAt: timestampFromDate(row.createdAt),
    lastActiveAt: timestampFromDate(row.lastActiveAt),
    pausedAt: row.pausedAt ? timestampFromDate(row.pausedAt) : undefined,
    snapshot: row.snapshot ? { ...row.snapshot, snapshotId: row.snapshot.id } : undefined,
    sourceSnapshotId: row.sourceSnapshotId ?? "",
    reclaim: row.reclaim ?? undefined,
    network: row.network,
    autoResume: row.autoResume,
    allowPublicTraffic: row.publicTraffic,
  });
}

/** A snapshot that belongs to no sandbox, as a caller sees it. */
export function snapshotMessage(row: KeptSnapshotRow, caller: Caller): MessageInitShape<typeof SnapshotSchema> {
  return {
    snapshotId: row.id,
    name: row.name,
    kind: row.kind,
    platform: row.platform,
    state: row.state,
    reason: row.reason,
    sandboxId: row.teamId === caller.teamId ? row.sandboxId : "",
    hostId: row.hostId,
    template: row.template,
    vcpus: row.vcpus,
    memoryMb: row.memoryMb,
    diskSizeMb: row.diskSizeMb,
    sizes: row.sizes ? { ...row.sizes, snapshotId: row.id } : undefined,
    stoppedUs: row.sizes?.stoppedUs,
    createdAt: timestampFromDate(row.createdAt),
    expiresAt: row.expiresAt ? timestampFromDate(row.expiresAt) : undefined,
  };
}

export function hookMessage(hook: HookOutcome): MessageInitShape<typeof HookOutcomeSchema> {
  return {
    ...hook,
    durationUs: BigInt(hook.durationUs),
    bytesTrimmed: BigInt(hook.bytesTrimmed),
    freeBytesBefore: BigInt(hook.freeBytesBefore),
    freeBytesAfter: BigInt(hook.freeBytesAfter),
  };
}

export function operationMessage(row: ShownOperation): MessageInitShape<typeof OperationSchema> {
  return {
    operationId: row.id,
    sandboxId: row.sandboxId,
    kind: row.kind,
    state: row.state,
    errorCode: row.errorCode,
    errorMessage: row.errorMessage,
    createdAt: timestampFromDate(row.createdAt),
    finishedAt: row.finishedAt ? timestampFromDate(row.finishedAt) : undefined,
    traceId: operationTraceId(row),
    snapshotId: row.snapshotId ?? "",
    hooks: (row.result.hooks ?? []).map(hookMessage),
    childIds: row.childIds,
  };
}

export function processMessage(process: ProcessInfo): MessageInitShape<typeof ProcessSchema> {
  const { $typeName: _name, $unknown: _unknown, ...fields } = process;
  return fields;
}

export function fileMessage(file: HostFile): MessageInitShape<typeof FileInfoSchema> {
  const { $typeName: _name, $unknown: _unknown, ...fields } = file;
  return fields;
}

export function spanMessage(span: SpanRow): MessageInitShape<typeof TraceSpanSchema> {
  const { startNs, endNs, ...fields } = span;
  return { ...fields, startUnixNs: startNs, endUnixNs: endNs };
}

export function traceSummaryMessage(trace: TraceRow): MessageInitShape<typeof TraceSummarySchema> {
  return {
    traceId: trace.traceId,
    rootName: trace.rootName,
    startUnixNs: trace.startNs,
    durationNs: trace.endNs - trace.startNs,
    spanCount: trace.spanCount,
  };
}

export function hostMessage(host: SchedulerHost): MessageInitShape<typeof HostSchema> {
  return {
    hostId: host.hostId,
    name: host.name,
    state: host.state,
    vcpus: host.capacity?.vcpus,
    memoryMb: host.capacity?.memoryMb,
    diskMb: host.capacity?.diskMb,
    reservedVcpus: host.reserved?.vcpus,
    reservedMemoryMb: host.reserved?.memoryMb,
    reservedDiskMb: host.reserved?.diskMb,
    capabilities: host.capabilities,
    lastHeartbeatAt: timestampFromMs(Number(host.lastHeartbeatUnixMs)),
    runningSandboxes: host.runningSandboxes,
    pausedSandboxes: host.pausedSandboxes,
  };
}
