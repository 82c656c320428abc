import type { z } from "zod";
import type { KeptSnapshotRow, SandboxSpec } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { StartedOperation } from "@torpor/lifecycle";
import { toNetworkPolicy } from "../inputs/network.ts";
import { toReclaimCaps } from "../inputs/reclaim.ts";
import { type createSandboxInput, type Lifetimes, SANDBOX_DEFAULTS } from "../inputs/sandbox.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import type { BeginOptions } from "./lifecycle.ts";
import { visibleSnapshot } from "./snapshots.ts";

type Input = z.output<typeof createSandboxInput>;

/**
 * Begins to create a sandbox, by a boot or from a snapshot. It goes on when the client leaves; await `done` for the
 * running sandbox.
 * @throws TorporError `idempotency_mismatch`, `snapshot_not_found`, `snapshot_mismatch`, `conflict` when the snapshot is
 * not ready; `done` rejects with `no_capacity`, `host_unreachable`, `template_not_found`, `vm_start_failed` …
 */
export async function createSandbox(
  api: Api,
  caller: Caller,
  input: Input,
  options: BeginOptions = {},
): Promise<StartedOperation> {
  const snapshot = input.snapshot === undefined ? undefined : await visibleSnapshot(api, caller, input.snapshot);
  const made = snapshot ? lockedParts(snapshot, input) : { ...SANDBOX_DEFAULTS, ...given(input) };
  const spec: SandboxSpec = {
    template: made.template,
    vcpus: made.vcpus,
    memoryMb: made.memory_mb,
    diskSizeMb: made.disk_size_mb,
    ...lifetimes(api, input),
    env: input.env,
    metadata: input.metadata,
    sourceSnapshotId: snapshot?.id ?? null,
    reclaim: toReclaimCaps(input.reclaim) ?? null,
    hostLabels: input.host_labels,
    requiredCapabilities: input.required_capabilities,
    autoResume: input.auto_resume,
    publicTraffic: input.network?.allow_public_traffic,
    network: input.network && toNetworkPolicy(input.network, "network."),
  };
  const started = await api.lifecycle.startCreate(caller.teamId, spec, options);
  caller.call.target = started.sandbox.id;
  return started;
}

function lifetimes({ lifetimes }: Api, input: Input): Lifetimes {
  return {
    timeoutSec: input.timeout_sec ?? lifetimes.timeoutSec,
    autoDeleteAfterSec: input.auto_delete_after_sec ?? lifetimes.autoDeleteAfterSec,
    ttlSec: input.ttl_sec ?? lifetimes.ttlSec,
    onTtl: input.on_ttl ?? lifetimes.onTtl,
  };
}

type Parts = { template: string; vcpus: number; memory_mb: number; disk_size_mb: number };

/** The parts that are baked into a snapshot. @throws TorporError `snapshot_mismatch` when others were asked for. */
function lockedParts(snapshot: KeptSnapshotRow, input: Input): Parts {
  const { template, vcpus } = snapshot;
  const parts: Parts = { template, vcpus, memory_mb: snapshot.memoryMb, disk_size_mb: snapshot.diskSizeMb };
  for (const [name, value] of Object.entries(given(input))) {
    const baked = parts[name as keyof Parts];
    if (value === baked) continue;
    const all = Object.entries(parts).map(([name, value]) => `${name} ${value}`).join(", ");
    throw new TorporError("snapshot_mismatch", `${name}: snapshot ${snapshot.name} has ${all}, not ${name} ${value}`, {
      field: name,
      hint: `leave ${Object.keys(parts).join(", ")} out`,
    });
  }
  return parts;
}

function given({ template, vcpus, memory_mb, disk_size_mb }: Input): Partial<Parts> {
  const entries = Object.entries({ template, vcpus, memory_mb, disk_size_mb });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}
