import { z } from "@hono/zod-openapi";
import type { HookOutcome, ReclaimCaps, SandboxRow } from "@torpor/db";
import { sandboxNetwork, viewNetworkPolicy } from "../../inputs/network.ts";
import { reclaimCaps } from "../../inputs/reclaim.ts";
import { onTtl, sandboxState } from "../../inputs/sandbox.ts";
import { idText } from "../../inputs/text.ts";

const time = z.iso.datetime();

export const snapshotView = z.object({
  snapshot_id: idText,
  generation: z.int().openapi({ description: "1 for the first pause or live checkpoint, then one more with each." }),
  size_bytes: z.int(),
  memory_bytes: z.int(),
  disk_bytes: z.int(),
  pages_resident: z.int().openapi({ description: "Guest pages (4,096 bytes) in host memory when the VM stopped." }),
  pages_dirty: z.int(),
  pages_data: z.int(),
}).openapi("SnapshotSummary");

export const sandboxView = z.object({
  sandbox_id: idText,
  state: sandboxState,
  reason: z.string().optional().openapi({ description: "Why, when failed or lost: an error code." }),
  template: z.string(),
  vcpus: z.int(),
  memory_mb: z.int(),
  disk_size_mb: z.int(),
  timeout_sec: z.int(),
  auto_delete_after_sec: z.int(),
  ttl_sec: z.int(),
  on_ttl: onTtl,
  expires_at: time.nullable().openapi({ description: "When on_ttl happens." }),
  metadata: z.record(z.string(), z.string()),
  host_id: z.string().nullable(),
  accelerator: z.string().nullable().openapi({ description: '"kvm" or "tcg"; null while it does not run.' }),
  version: z.int().openapi({ description: "Grows by one with each state change." }),
  operation_id: z.string().nullable().openapi({ description: "The operation in flight, or the last one." }),
  created_at: time,
  last_active_at: time,
  paused_at: time.nullable(),
  snapshot: snapshotView.nullable().openapi({ description: "The newest snapshot; null before the first pause." }),
  source_snapshot_id: z.string().nullable().openapi({ description: "What it was spawned from; null: it has booted." }),
  reclaim: reclaimCaps.nullable(),
  auto_resume: z.boolean(),
  network: sandboxNetwork,
}).openapi("Sandbox");

/** What those see who may change it. */
export const ownedSandboxView = sandboxView.extend({
  traffic_access_token: z.string().nullable().openapi({
    description: "What requests to its ports show as `torpor-traffic-access-token`; null when they need not.",
  }),
}).openapi("OwnedSandbox");

export const hookView = z.object({
  step: z.string().openapi({ description: '"fstrim", "sync", "drop_caches", "compact_memory", "freeze", "thaw".' }),
  outcome: z.string().openapi({ description: '"ok", "timed_out", "failed".' }),
  error_number: z.int(),
  duration_us: z.int(),
  bytes_trimmed: z.int(),
  free_bytes_before: z.int(),
  free_bytes_after: z.int(),
}).openapi("HookOutcome");

export const pausedSandboxView = sandboxView.extend({
  hooks: z.array(hookView).openapi({ description: "What was done in the guest; empty when it was paused already." }),
}).openapi("PausedSandbox");

export const forkView = z.object({
  source: sandboxView,
  children: z.array(ownedSandboxView),
  stopped_us: z.int().openapi({
    description: "How long the vCPUs of the source stood still, microseconds; 0 when it was paused.",
  }),
}).openapi("Fork");

export const sandboxPageView = z.object({
  sandboxes: z.array(sandboxView),
  next_cursor: z.string().nullable().openapi({ description: "`cursor` of the next page; null on the last." }),
}).openapi("SandboxPage");

/** A sandbox as the REST API shows it. The environment is not shown: it can hold secrets. */
export function viewSandbox(row: SandboxRow): z.output<typeof sandboxView> {
  return {
    sandbox_id: row.id,
    state: row.state,
    ...(row.reason === "" ? {} : { reason: row.reason }),
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    disk_size_mb: row.diskSizeMb,
    timeout_sec: row.timeoutSec,
    auto_delete_after_sec: row.autoDeleteAfterSec,
    ttl_sec: row.ttlSec,
    on_ttl: row.onTtl,
    expires_at: row.expiresAt?.toISOString() ?? null,
    metadata: row.metadata,
    host_id: row.hostId,
    accelerator: row.accelerator || null,
    version: Number(row.version),
    operation_id: row.operationId,
    created_at: row.createdAt.toISOString(),
    last_active_at: row.lastActiveAt.toISOString(),
    paused_at: row.pausedAt?.toISOString() ?? null,
    snapshot: viewSnapshot(row),
    source_snapshot_id: row.sourceSnapshotId,
    reclaim: viewReclaim(row.reclaim),
    auto_resume: row.autoResume,
    network: { ...viewNetworkPolicy(row.network), allow_public_traffic: row.publicTraffic },
  };
}

/** A sandbox with the secret that opens its ports: for answers to keys that may change it. */
export function viewOwnedSandbox(row: SandboxRow): z.output<typeof ownedSandboxView> {
  return { ...viewSandbox(row), traffic_access_token: row.publicTraffic ? null : row.trafficToken };
}

function viewReclaim(caps: ReclaimCaps | null): z.output<typeof reclaimCaps> | null {
  return caps && {
    fstrim_ms: caps.fstrimMs,
    sync_ms: caps.syncMs,
    drop_caches_ms: caps.dropCachesMs,
    compact_memory_ms: caps.compactMemoryMs,
  };
}

/** How a hook around a pause ended. */
export function viewHook(hook: HookOutcome): z.input<typeof hookView> {
  return {
    step: hook.step,
    outcome: hook.outcome,
    error_number: hook.errorNumber,
    duration_us: hook.durationUs,
    bytes_trimmed: hook.bytesTrimmed,
    free_bytes_before: hook.freeBytesBefore,
    free_bytes_after: hook.freeBytesAfter,
  };
}

function viewSnapshot(row: SandboxRow): z.input<typeof snapshotView> | null {
  const snapshot = row.snapshot;
  if (!snapshot) return null;
  return {
    snapshot_id: snapshot.id,
    generation: snapshot.generation,
    size_bytes: Number(snapshot.sizeBytes),
    memory_bytes: Number(snapshot.memoryBytes),
    disk_bytes: Number(snapshot.diskBytes),
    pages_resident: Number(snapshot.pagesResident),
    pages_dirty: Number(snapshot.pagesDirty),
    pages_data: Number(snapshot.pagesData),
  };
}
