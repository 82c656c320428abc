import { getHost } from "@torpor/db";
import type { ExpiredSnapshot } from "@torpor/lifecycle";
import { newTrace } from "@torpor/telemetry";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** Snapshots whose hosts are told at the same time; one that hangs takes 30 s of the pass. */
const SWEEP_LIMIT = 32;

/**
 * Deletes snapshots whose time is over and failed ones that have been shown for long enough, as their owner would. Those
 * whose host does not confirm stay `deleting`, and a later pass tells it again.
 */
export async function sweepSnapshots(context: PassContext): Promise<Repair[]> {
  const expired = await context.lifecycle.expireSnapshots(context.failedRetentionMs, SWEEP_LIMIT);
  return await Promise.all(expired.map((one) => remove(context, one)));
}

async function remove(context: PassContext, { snapshot, fromState }: ExpiredSnapshot): Promise<Repair> {
  const { id: snapshotId, hostId, sandboxId } = snapshot;
  const attributes = {
    "torpor.repair": "snapshot_expired",
    "torpor.snapshot_id": snapshotId,
    "torpor.host_id": hostId,
  };
  const host = await getHost(context.database.sql, hostId);
  // One that is known to be away would only hold the pass up.
  const { confirmed } = host?.unreachableSince
    ? { confirmed: false }
    : await newTrace("reconciler.snapshot_expired", attributes, () => context.lifecycle.deleteSnapshot(snapshotId));
  const toState = confirmed ? "deleted" : "deleting";
  return context.repairs.record({ kind: "snapshot_expired", snapshotId, sandboxId, hostId, fromState, toState });
}
