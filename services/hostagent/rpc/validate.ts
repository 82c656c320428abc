import { TorporError } from "@torpor/errors";
import { newId, requireId, requireTemplateName } from "@torpor/ids";
import { parsePolicy } from "@torpor/network";
import type {
  CreateSandboxRequest,
  CreateSnapshotRequest,
  NetworkPolicy as PolicyMessage,
  ReclaimCaps as CapsMessage,
} from "@torpor/proto/hostagent";
import { MAX_SNAPSHOT_NAME } from "@torpor/snapshot";
import type { CreateSpec, LifecycleCall, SnapshotRequest } from "../sandbox/calls.ts";
import type { BootSpec } from "../sandbox/create_sandbox.ts";
import { MAX_RECLAIM_CAP_MS, type ReclaimCaps } from "../sandbox/reclaim_caps.ts";
import type { NetworkUpdate } from "../sandbox/recorded_network.ts";
import type { SpawnSpec } from "../sandbox/spawn_sandbox.ts";

/** Values that 0 or an empty string stands for (proto/hostagent/v1). */
const DEFAULTS = { template: "base", vcpus: 1, memoryMb: 512, diskSizeMb: 5120 } as const;
const MAX_TIMEOUT_SEC = 604_800;
/** Of all names and values together: what a program's environment may take. */
const MAX_ENV_BYTES = 128 * 1024;

/** What would end or turn around a line in which a name is shown, and what is no character. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_C}]/u;

/** @throws TorporError `invalid_argument` that names the field. */
export function createSpec(request: CreateSandboxRequest): CreateSpec {
  return {
    from: request.snapshotId === "" ? bootSpec(request) : spawnSpec(request),
    timeoutSec: timeoutSec(request.timeoutSec),
    env: environment(request.env),
    reclaim: reclaimCaps(request.reclaim),
    network: networkUpdate(request),
  };
}

/** @throws TorporError `invalid_argument` that names the field. */
export function snapshotRequest(request: CreateSnapshotRequest): SnapshotRequest {
  const { snapshotId, name, keepSandbox } = request;
  if (snapshotId !== "") requireId(snapshotId, "snapshot_id");
  if (name.length > MAX_SNAPSHOT_NAME) throw invalid("name", `has more than ${MAX_SNAPSHOT_NAME} characters`);
  if (UNPRINTABLE.test(name)) throw invalid("name", "has control characters");
  return { snapshotId, name, keepSandbox };
}

function bootSpec(request: CreateSandboxRequest): BootSpec {
  return {
    template: requireTemplateName(request.template || DEFAULTS.template),
    vcpus: inRange(request.vcpus || DEFAULTS.vcpus, 1, 16, "vcpus"),
    memoryMb: inRange(request.memoryMb || DEFAULTS.memoryMb, 128, 65_536, "memory_mb"),
    diskSizeMb: inRange(request.diskSizeMb || DEFAULTS.diskSizeMb, 64, 1_048_576, "disk_size_mb"),
  };
}

function spawnSpec({ snapshotId, template, vcpus, memoryMb, diskSizeMb }: CreateSandboxRequest): SpawnSpec {
  return { snapshotId: requireId(snapshotId, "snapshot_id"), template, vcpus, memoryMb, diskSizeMb };
}

/** @throws TorporError `invalid_argument` that names the field. */
export function timeoutSec(value: number): number {
  return inRange(value, 0, MAX_TIMEOUT_SEC, "timeout_sec");
}

/** The part that all lifecycle requests have. @throws TorporError `invalid_argument` that names the field. */
export function lifecycleCall(request: { sandboxId: string; operationId: string; version: bigint }): LifecycleCall {
  const operationId = request.operationId === "" ? newId() : requireId(request.operationId, "operation_id");
  return { ...fencedCall(request), operationId };
}

/** The part of a request that changes a sandbox without being a lifecycle operation. @throws as {@linkcode lifecycleCall}. */
export function fencedCall(request: { sandboxId: string; version: bigint }): Omit<LifecycleCall, "operationId"> {
  const version = Number(request.version);
  if (!Number.isSafeInteger(version) || version < 0) throw invalid("version", "must not be negative");
  return { sandboxId: requireId(request.sandboxId, "sandbox_id"), version };
}

/** Absent: undefined. @throws TorporError `invalid_argument` that names the entry at fault. */
export function networkUpdate(
  { network, networkRevision }: { network?: PolicyMessage; networkRevision: bigint },
): NetworkUpdate | undefined {
  const revision = Number(networkRevision);
  if (!Number.isSafeInteger(revision) || revision < 0) throw invalid("network_revision", "must not be negative");
  return network && { policy: parsePolicy(network), revision };
}

/** Absent: undefined. @throws TorporError `invalid_argument` that names the field. */
export function reclaimCaps(caps: CapsMessage | undefined): ReclaimCaps | undefined {
  if (!caps) return undefined;
  const cap = (ms: number, field: string) => inRange(ms, 0, MAX_RECLAIM_CAP_MS, `reclaim.${field}`);
  return {
    fstrim_ms: cap(caps.fstrimMs, "fstrim_ms"),
    sync_ms: cap(caps.syncMs, "sync_ms"),
    drop_caches_ms: cap(caps.dropCachesMs, "drop_caches_ms"),
    compact_memory_ms: cap(caps.compactMemoryMs, "compact_memory_ms"),
  };
}

function environment(env: Record<string, string>): Record<string, string> {
  let bytes = 0;
  for (const [name, value] of Object.entries(env)) {
    if (name === "" || name.includes("=") || name.includes("\0") || value.includes("\0")) {
      throw invalid("env", "has a name that is empty or has '=', or a NUL byte");
    }
    bytes += new TextEncoder().encode(name + value).length + 2;
  }
  if (bytes > MAX_ENV_BYTES) throw invalid("env", `has more than ${MAX_ENV_BYTES} bytes`);
  return { ...env };
}

function inRange(value: number, min: number, max: number, field: string): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw invalid(field, `must be ${min} to ${max}`);
}

function invalid(field: string, what: string): TorporError {
  return new TorporError("invalid_argument", `${field} ${what}`, { field });
}
