import { deleteOldIdempotencyKeys, expireReservations, findDueSweeps, type Sweep } from "@torpor/db";
import { newTrace } from "@torpor/telemetry";
import type { PassContext } from "./pass.ts";
import type { Repair, RepairKind } from "./repairs.ts";

/** Rows that one sweep takes at most: the rest comes with the next pass. */
const SWEEP_LIMIT = 100;

/** Host agents pause idle sandboxes themselves; this long after their timeout the reconciler does, ms. */
const IDLE_MARGIN_MS = 10_000;

const KINDS: Record<Sweep, RepairKind> = { idle: "idle_paused", stale: "stale_deleted", expired: "ttl_expired" };

/** Pauses and deletes sandboxes whose time has come, and forgets what has expired. */
export async function sweepSandboxes(context: PassContext): Promise<Repair[]> {
  const { database, repairs } = context;
  const marginMs = IDLE_MARGIN_MS + 2 * context.intervalMs;
  const done: Repair[] = [];
  // Asked first, so that a pass that finds nothing to do makes no trace.
  for (const sweep of await findDueSweeps(database.sql, marginMs)) done.push(...await run(context, sweep, marginMs));
  const expired = await database.transaction("sweep_reservations", (sql) => expireReservations(sql, SWEEP_LIMIT));
  await deleteOldIdempotencyKeys(database.sql, SWEEP_LIMIT);
  return [...done, ...expired.map((sandboxId) => repairs.record({ kind: "reservation_expired", sandboxId }))];
}

async function run({ lifecycle, repairs }: PassContext, sweep: Sweep, marginMs: number): Promise<Repair[]> {
  const kind = KINDS[sweep];
  const begun = await newTrace(`reconciler.${kind}`, {}, () => lifecycle.beginSweep(sweep, marginMs, SWEEP_LIMIT));
  return begun.map(({ sandbox, fromState }) => {
    const hostId = sandbox.hostId ?? "";
    return repairs.record({ kind, sandboxId: sandbox.id, hostId, fromState, toState: sandbox.state });
  });
}
