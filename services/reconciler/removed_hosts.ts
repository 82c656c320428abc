import {
  listKeptSnapshotsToReconcile,
  listSandboxesToGiveUp,
  removedHostsInUse,
  setKeptSnapshotState,
} from "@torpor/db";
import { markLost } from "@torpor/lifecycle";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** Why what was on a host that was removed by force is lost. */
const REASON = "host_removed";

/** Rows of one host that a pass takes at most. */
const LIMIT = 500;

/**
 * Gives up what was on hosts that were removed by force, until they are added again with their data: then their inventory
 * decides. What an operation holds is given up with that operation, which its runner or the journal sees to.
 */
export async function reconcileRemovedHosts(context: PassContext): Promise<Repair[]> {
  const repairs: (Repair | undefined)[] = [];
  for (const hostId of await removedHostsInUse(context.database.sql)) {
    repairs.push(...await giveUpSandboxes(context, hostId), ...await giveUpSnapshots(context, hostId));
  }
  return repairs.filter((one) => one !== undefined);
}

async function giveUpSandboxes({ database, repairs }: PassContext, hostId: string): Promise<(Repair | undefined)[]> {
  const done: (Repair | undefined)[] = [];
  for (const row of await listSandboxesToGiveUp(database.sql, hostId, LIMIT)) {
    const about = { sandboxId: row.id, hostId, fromState: row.state, toState: "lost", reason: REASON };
    done.push(await repairs.carryOut({ ...about, kind: "host_removed" }, () => markLost(database, row, REASON)));
  }
  return done;
}

async function giveUpSnapshots(context: PassContext, hostId: string): Promise<(Repair | undefined)[]> {
  const { database, lifecycle, repairs } = context;
  const done: (Repair | undefined)[] = [];
  for (const { id, state, inOperation } of await listKeptSnapshotsToReconcile(database.sql, hostId, [])) {
    const about = { kind: "host_removed" as const, snapshotId: id, hostId, fromState: state };
    if (state === "ready" || state === "creating" && !inOperation) {
      const fail = () => setKeptSnapshotState(database.sql, id, [state], "failed", { reason: REASON });
      done.push(await repairs.carryOut({ ...about, toState: "failed", reason: REASON }, fail));
    } else if (state === "deleting") {
      done.push(await repairs.carryOut({ ...about, toState: "deleted" }, () => lifecycle.deleteSnapshot(id)));
    }
  }
  return done;
}
