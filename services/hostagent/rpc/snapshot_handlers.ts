import type { ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import type { HostAgentService } from "@torpor/proto/hostagent";
import type { SandboxManager } from "../sandbox/manager.ts";
import type { KeptSnapshots } from "../snapshot/kept.ts";
import type { SnapshotReferences } from "../snapshot/references.ts";
import { ChangeLog } from "../sandbox/change_log.ts";
import { chooseListing, questionOfSnapshots } from "./list_sandboxes.ts";
import { keptSnapshot, keptSnapshotStamp, snapshotInfo } from "./sandbox_info.ts";
import { lifecycleCall, snapshotRequest } from "./validate.ts";

type SnapshotMethods = "createSnapshot" | "deleteSnapshot" | "listSnapshots";

/** The RPCs about kept snapshots. */
export function snapshotHandlers(
  manager: SandboxManager,
  kept: KeptSnapshots,
  references: SnapshotReferences,
): Pick<ServiceImpl<typeof HostAgentService>, SnapshotMethods> {
  const changes = new ChangeLog();
  return {
    async createSnapshot(request) {
      const { snapshot, stoppedUs } = await manager.snapshot(lifecycleCall(request), snapshotRequest(request));
      const info = snapshotInfo(snapshot.manifest);
      return {
        name: snapshot.manifest.name,
        sizeBytes: info.sizeBytes,
        snapshot: info,
        stoppedUs: BigInt(stoppedUs),
      };
    },

    async deleteSnapshot({ snapshotId, name }) {
      const id = snapshotId || idOfName(kept, name);
      if (id !== undefined) await kept.delete(id);
      return {};
    },

    listSnapshots(request) {
      const present = new Map(kept.list().map((found) => [found.manifest.snapshot_id, found]));
      changes.observe(present, ([id, found]) => [id, keptSnapshotStamp(found)]);
      const { ids, epoch, revision, changesComplete, removedSandboxIds } = chooseListing(
        questionOfSnapshots(request),
        present,
        changes,
      );
      return {
        snapshots: [...ids].map((id) => keptSnapshot(present.get(id)!)),
        damaged: references.damaged(),
        ...{ epoch, revision, changesComplete, removedSnapshotIds: removedSandboxIds },
      };
    },
  };
}

/** Names are the control plane's, so several snapshots of a host may have the same one. */
function idOfName(kept: KeptSnapshots, name: string): string | undefined {
  if (name === "") throw new TorporError("invalid_argument", "snapshot_id is missing", { field: "snapshot_id" });
  const found = kept.list().filter(({ manifest }) => manifest.name === name);
  if (found.length <= 1) return found[0]?.manifest.snapshot_id;
  throw new TorporError("conflict", `${found.length} snapshots have this name`, { hint: "delete by snapshot_id" });
}
