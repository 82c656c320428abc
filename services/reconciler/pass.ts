import {
  type Database,
  databaseTime,
  deleteOldIdempotencyKeys,
  expireReservations,
  hasIdleSandboxes,
  type HostRow,
  listHosts,
} from "@torpor/db";
import type { HostClient, Lifecycle, Settled, SettledFork } from "@torpor/lifecycle";
import { newTrace } from "@torpor/telemetry";
import { reconcileHost } from "./host.ts";
import type { Repair, RepairLog } from "./repairs.ts";
import { sweepSnapshots } from "./sweep_snapshots.ts";

/** What a pass works with. */
export interface PassContext {
  database: Database;
  lifecycle: Lifecycle;
  host: (address: string) => HostClient;
  repairs: RepairLog;
  intervalMs: number;
  graceMs: number;
  hostGraceMs: number;
  /** See ReconcilerConfig. */
  failedRetentionMs: number;
  /** How long this replica has led. */
  leadingMs: number;
}

/** What a pass has done. */
export interface PassResult {
  repairs: Repair[];
  hostsChecked: number;
  hostsUnreachable: number;
}

/** Rows that one sweep takes at most: the rest comes with the next pass. */
const SWEEP_LIMIT = 100;

/** Hosts that are asked at the same time. */
const PARALLEL_HOSTS = 16;

/** Host agents pause idle sandboxes themselves; this long after their timeout the reconciler does, ms. */
const IDLE_MARGIN_MS = 10_000;

/**
 * One pass: settles operations that nobody works on, compares each host's inventory with the database, sweeps.
 * Level-triggered: it starts from the facts each time and remembers nothing.
 */
export async function runPass(context: PassContext): Promise<PassResult> {
  const settled = await context.lifecycle.settleAbandoned(SWEEP_LIMIT);
  const forks = await context.lifecycle.settleForks(SWEEP_LIMIT);
  const repairs = [...settled.map(repairOf), ...forks.map(repairOfFork)].map((one) => context.repairs.record(one));

  const hosts = await listHosts(context.database.sql);
  const takenAt = await databaseTime(context.database.sql);
  let unreachable = 0;
  await inParallel(hosts, PARALLEL_HOSTS, async (host) => {
    const result = await reconcileHost(context, host, takenAt);
    repairs.push(...result.repairs);
    if (!result.reached) unreachable += 1;
  });
  repairs.push(...await sweep(context), ...await sweepSnapshots(context));
  return { repairs, hostsChecked: hosts.length, hostsUnreachable: unreachable };
}

function repairOf({ operation, sandbox, fromState }: Settled): Repair {
  const kind = operation.kind === "delete"
    ? "delete_repeated"
    : operation.state === "succeeded"
    ? "operation_finished"
    : "operation_rolled_back";
  return {
    kind,
    sandboxId: sandbox.id,
    hostId: sandbox.hostId ?? "",
    fromState,
    toState: sandbox.state,
    reason: operation.errorCode,
  };
}

function repairOfFork({ fork, error }: SettledFork): Repair {
  const { sandboxId, snapshotId } = fork;
  return { kind: error ? "fork_rolled_back" : "fork_finished", sandboxId, snapshotId, reason: error?.code };
}

async function sweep({ database, lifecycle, repairs, intervalMs }: PassContext): Promise<Repair[]> {
  const marginMs = IDLE_MARGIN_MS + 2 * intervalMs;
  // Asked first, so that a pass that finds nothing to do makes no trace.
  const idle = await hasIdleSandboxes(database.sql, marginMs)
    ? await newTrace("reconciler.idle_paused", {}, () => lifecycle.pauseIdle(marginMs, SWEEP_LIMIT))
    : [];
  const expired = await database.transaction("sweep_reservations", (sql) => expireReservations(sql, SWEEP_LIMIT));
  await deleteOldIdempotencyKeys(database.sql, SWEEP_LIMIT);
  return [
    ...idle.map(({ sandbox }) =>
      repairs.record({
        kind: "idle_paused",
        sandboxId: sandbox.id,
        hostId: sandbox.hostId ?? "",
        fromState: "running",
        toState: sandbox.state,
      })
    ),
    ...expired.map((sandboxId) => repairs.record({ kind: "reservation_expired", sandboxId })),
  ];
}

async function inParallel(hosts: HostRow[], width: number, work: (host: HostRow) => Promise<void>): Promise<void> {
  const queue = hosts.values();
  const worker = async () => {
    for (const host of queue) await work(host);
  };
  await Promise.all(Array.from({ length: Math.min(width, hosts.length) }, worker));
}
