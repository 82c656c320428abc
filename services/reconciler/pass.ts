import { type Database, databaseTime, type HostRow, listHosts } from "@torpor/db";
import type { HostClient, Lifecycle, Settled, SettledFork } from "@torpor/lifecycle";
import { drainHosts } from "./drain_hosts.ts";
import { reconcileHost } from "./host.ts";
import { reconcileRemovedHosts } from "./removed_hosts.ts";
import type { HostViews } from "./host_views.ts";
import { keepHouse } from "./housekeeping.ts";
import type { Repair, RepairLog } from "./repairs.ts";
import { sweepSnapshots } from "./sweep_snapshots.ts";
import { sweepSandboxes } from "./sweeps.ts";

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
  /** See ReconcilerConfig. */
  auditRetentionMs: number;
  /** How long this replica has led. */
  leadingMs: number;
  /** What earlier passes of this term have compared. */
  views: HostViews;
}

/** What a pass has done. */
export interface PassResult {
  repairs: Repair[];
  hostsChecked: number;
  hostsUnreachable: number;
}

/** Operations and forks that a pass settles at most: the rest comes with the next pass. */
const SETTLE_LIMIT = 100;

/**
 * Sandboxes that a pass compares although nothing says that they have changed, on all hosts together: what was missed is
 * found within (sandboxes / 500) passes. More would make a pass cost by what exists.
 */
const COMPARED_PER_PASS = 500;

/** … and at least so many on each host. */
const LEAST_PAGE = 10;

/** Hosts that are asked at the same time. */
const PARALLEL_HOSTS = 16;

/**
 * One pass: settles operations that nobody works on, compares each host's inventory with the database, sweeps.
 * Level-triggered: it starts from the facts each time, and remembers only which of them it has compared.
 */
export async function runPass(context: PassContext): Promise<PassResult> {
  const settled = await context.lifecycle.settleAbandoned(SETTLE_LIMIT);
  const forks = await context.lifecycle.settleForks(SETTLE_LIMIT);
  const repairs = [...settled.map(repairOf), ...forks.map(repairOfFork)].map((one) => context.repairs.record(one));

  const hosts = await listHosts(context.database.sql);
  const takenAt = await databaseTime(context.database.sql);
  context.views.keepOnly(new Set(hosts.map(({ id }) => id)));
  const pageSize = Math.max(LEAST_PAGE, Math.ceil(COMPARED_PER_PASS / Math.max(1, hosts.length)));
  let unreachable = 0;
  await inParallel(hosts, PARALLEL_HOSTS, async (host) => {
    const result = await reconcileHost(context, host, takenAt, pageSize);
    repairs.push(...result.repairs);
    if (!result.reached) unreachable += 1;
  });
  repairs.push(...await reconcileRemovedHosts(context), ...await drainHosts(context));
  repairs.push(...await sweepSandboxes(context), ...await sweepSnapshots(context));
  await keepHouse(context);
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

async function inParallel(hosts: HostRow[], width: number, work: (host: HostRow) => Promise<void>): Promise<void> {
  const queue = hosts.values();
  const worker = async () => {
    for (const host of queue) await work(host);
  };
  await Promise.all(Array.from({ length: Math.min(width, hosts.length) }, worker));
}
