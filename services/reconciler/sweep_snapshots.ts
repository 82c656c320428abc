import { newTrace } from "@torpor/telemetry";
import type { ExpiredSnapshot } from "@torpor/lifecycle";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** Snapshots whose host is told at the same time; one that does not answer takes 30 s. */
const SWEEP_LIMIT = 32;

/**
 * Deletes snapshots whose time is over and failed ones that have been shown for long enough, as their owner would. Those
 * whose host does not confirm stay `deleting`, and a later pass tells it again.
 */
export async function sweepSnapshots(context: PassContext): Promise<Repair[]> {
  const expired = await context.lifecycle.expireSnapshots(context.failedRetentionMs, SWEEP_LIMIT);
  return await Promise.all(expired.map((one) => remove(context, one)));
}

async function remove({ lifecycle, repairs }: PassContext, { snapshot, fromState }: ExpiredSnapshot): Promise<Repair> {
  const { id: snapshotId, hostId, sandboxId } = snapshot;
  const attributes = {
    "torpor.repair": "snapshot_expired",
    "torpor.snapshot_id": snapshotId,
    "torpor.host_id": hostId,
  };
  const { confirmed } = await newTrace(
    "reconciler.snapshot_expired",
    attributes,
    () => lifecycle.deleteSnapshot(snapshotId),
  );
  const toState = confirmed ? "deleted" : "deleting";
  return repairs.record({ kind: "snapshot_expired", snapshotId, sandboxId, hostId, fromState, toState });
}
