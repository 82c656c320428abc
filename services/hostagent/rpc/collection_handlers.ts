import type { ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import type { HostAgentService } from "@torpor/proto/hostagent";
import type { SandboxManager } from "../sandbox/manager.ts";
import type { Collector } from "../snapshot/collector.ts";
import type { KnownDamage } from "../snapshot/damage.ts";
import { inspectSnapshot } from "../snapshot/inspect.ts";
import type { SnapshotReferences } from "../snapshot/references.ts";
import type { Verifier } from "../snapshot/verifier.ts";
import type { VerifiedFile } from "../snapshot/verify_data.ts";
import type { Layout } from "../storage/layout.ts";

type CollectionMethods = "inspectSnapshot" | "collectSnapshots";

/** The RPCs about what snapshots consist of. */
export function collectionHandlers(
  manager: SandboxManager,
  layout: Layout,
  collector: Collector,
  { verifier, damage, references }: { verifier: Verifier; damage: KnownDamage; references: SnapshotReferences },
): Pick<ServiceImpl<typeof HostAgentService>, CollectionMethods> {
  return {
    async inspectSnapshot({ snapshotId, sandboxId, verify }) {
      const note = (verified: VerifiedFile[]) => verifier.note(verified);
      return await inspectSnapshot(layout, wantedSnapshot(manager, snapshotId, sandboxId), { verify, damage, note });
    },

    async collectSnapshots({ dryRun }) {
      const collected = await collector.collect(dryRun);
      return {
        collected: collected.map(({ bytes, ...data }) => ({ ...data, bytes: BigInt(bytes) })),
        bytes: BigInt(collected.reduce((sum, { bytes }) => sum + bytes, 0)),
        damaged: references.damaged(),
      };
    },
  };
}

/** @throws TorporError `invalid_argument`, `sandbox_not_found`, `snapshot_not_found`. */
function wantedSnapshot(manager: SandboxManager, snapshotId: string, sandboxId: string): string {
  if ((snapshotId === "") === (sandboxId === "")) {
    throw new TorporError("invalid_argument", "either snapshot_id or sandbox_id must be given", {
      field: "snapshot_id",
    });
  }
  if (snapshotId !== "") return snapshotId;
  const newest = manager.get(sandboxId).newest?.manifest.snapshot_id;
  if (newest) return newest;
  throw new TorporError("snapshot_not_found", `sandbox ${sandboxId} has never been paused`, { field: "sandbox_id" });
}
