import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type HookOutcome, type Sandbox, SandboxState } from "@torpor/proto/torpor";

/** "running", "paused", … */
export function stateName(state: SandboxState): string {
  return SandboxState[state].toLowerCase();
}

/** A sandbox as the command line prints it in JSON: the fields of the REST surface. */
export function sandboxJson(sandbox: Sandbox): Record<string, unknown> {
  const { snapshot } = sandbox;
  const time = (value: Sandbox["createdAt"]) => value ? timestampDate(value).toISOString() : null;
  return {
    sandbox_id: sandbox.sandboxId,
    state: stateName(sandbox.state),
    reason: sandbox.reason || null,
    template: sandbox.template,
    vcpus: sandbox.vcpus,
    memory_mb: sandbox.memoryMb,
    disk_size_mb: sandbox.diskSizeMb,
    timeout_sec: sandbox.timeoutSec,
    auto_delete_after_sec: sandbox.autoDeleteAfterSec,
    ttl_sec: sandbox.ttlSec,
    on_ttl: sandbox.onTtl,
    expires_at: time(sandbox.expiresAt),
    metadata: sandbox.metadata,
    host_id: sandbox.hostId || null,
    accelerator: sandbox.accelerator || null,
    version: sandbox.version,
    operation_id: sandbox.operationId || null,
    created_at: time(sandbox.createdAt),
    last_active_at: time(sandbox.lastActiveAt),
    paused_at: time(sandbox.pausedAt),
    snapshot: snapshot
      ? {
        snapshot_id: snapshot.snapshotId,
        generation: snapshot.generation,
        size_bytes: snapshot.sizeBytes,
        memory_bytes: snapshot.memoryBytes,
        disk_bytes: snapshot.diskBytes,
        pages_resident: snapshot.pagesResident,
        pages_dirty: snapshot.pagesDirty,
        pages_data: snapshot.pagesData,
      }
      : null,
    source_snapshot_id: sandbox.sourceSnapshotId || null,
    network: {
      allow_internet_access: sandbox.network?.allowInternetAccess ?? true,
      allow_out: sandbox.network?.allowOut ?? [],
      deny_out: sandbox.network?.denyOut ?? [],
    },
  };
}

/** A hook around a pause as the command line prints it in JSON. */
export function hookJson(hook: HookOutcome): Record<string, unknown> {
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
