import {
  type HostRow,
  listSandboxesToReconcile,
  newOperationId,
  type SandboxRow,
  setHostUnreachable,
  touchSandboxes,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { adoptPause, adoptRunning, type HostClient, markFailed } from "@torpor/lifecycle";
import type { ListSandboxesResponse, SandboxInfo } from "@torpor/proto/hostagent";
import { log } from "@torpor/telemetry";
import { judge, type Verdict } from "./judge.ts";
import { loseHost } from "./lost_host.ts";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";
import { reconcileSnapshots } from "./snapshots.ts";

/** A host agent lists from memory, ms. */
const LIST_TIMEOUT_MS = 5_000;

/** Destroying a VM that hangs takes its host this long at most, ms. */
const DESTROY_TIMEOUT_MS = 60_000;

/** What was done about one host. */
export interface HostResult {
  repairs: Repair[];
  /** false: it did not answer. */
  reached: boolean;
}

/**
 * Compares one host's inventory with the database, in both directions, and repairs what differs.
 * @param takenAt the database's time before the host is asked.
 */
export async function reconcileHost(context: PassContext, host: HostRow, takenAt: Date): Promise<HostResult> {
  const client = context.host(host.address);
  let list: ListSandboxesResponse;
  try {
    list = await listSandboxes(client, host, []);
  } catch (thrown) {
    log("warn", "host_not_listed", { host_id: host.id, silent_ms: Math.round(host.silentMs) }, thrown);
    return { repairs: await loseHost(context, host), reached: false };
  }
  const repairs: (Repair | undefined)[] = [];
  if (host.unreachableSince !== null && await setHostUnreachable(context.database.sql, host.id, false)) {
    repairs.push(context.repairs.record({ kind: "host_returned", hostId: host.id }));
  }
  const inventory = new Map(list.sandboxes.map((info) => [info.sandboxId, info]));
  const rows = new Map(
    (await listSandboxesToReconcile(context.database.sql, host.id, [...inventory.keys()])).map((row) => [row.id, row]),
  );
  for (const id of new Set([...rows.keys(), ...inventory.keys()])) {
    const [row, info] = [rows.get(id), inventory.get(id)];
    const verdict = judge(row, info, { hostId: host.id, takenAt, graceMs: context.graceMs });
    if (verdict.do !== "nothing") repairs.push(await repair(context, client, host, id, row, verdict));
  }
  repairs.push(...await reconcileSnapshots(context, client, host, takenAt));
  await refreshActivity(context, rows, inventory);
  await acknowledge(context, client, host, list);
  return { repairs: repairs.filter((one) => one !== undefined), reached: true };
}

async function listSandboxes(
  client: HostClient,
  host: HostRow,
  acknowledgedAutoPausedIds: string[],
): Promise<ListSandboxesResponse> {
  const list = await client.listSandboxes({ acknowledgedAutoPausedIds }, { timeoutMs: LIST_TIMEOUT_MS });
  // Another agent at this address has other sandboxes: by its list all of this host's would be gone.
  if (list.hostId === host.id) return list;
  throw new TorporError("host_unreachable", `host ${list.hostId} answers at the address of host ${host.id}`);
}

async function repair(
  context: PassContext,
  client: HostClient,
  host: HostRow,
  sandboxId: string,
  row: SandboxRow | undefined,
  verdict: Exclude<Verdict, { do: "nothing" }>,
): Promise<Repair | undefined> {
  const { database, repairs } = context;
  const about = { sandboxId, hostId: host.id, fromState: row?.state };
  switch (verdict.do) {
    case "adopt_pause":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "paused", reason: verdict.reason },
        () => adoptPause(database, row!, verdict.snapshot, verdict.reason),
      );
    case "adopt_running":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "running" },
        () => adoptRunning(database, row!, verdict.accelerator),
      );
    case "mark_failed":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "failed", reason: verdict.reason },
        () => markFailed(database, row!, verdict.reason),
      );
    case "destroy":
      return await repairs.carryOut(
        { ...about, kind: "orphan_destroyed", toState: row?.state },
        () =>
          client.destroySandbox(
            { sandboxId, operationId: newOperationId(), version: row?.version ?? 0n },
            { timeoutMs: DESTROY_TIMEOUT_MS },
          ),
      );
  }
}

/** Execs and pings go through the host, so it knows best when a sandbox was last used. */
async function refreshActivity(
  context: PassContext,
  rows: Map<string, SandboxRow>,
  inventory: Map<string, SandboxInfo>,
): Promise<void> {
  const newer = new Map<string, Date>();
  for (const [id, info] of inventory) {
    const at = new Date(Number(info.lastActiveAtUnix) * 1000);
    const row = rows.get(id);
    if (row?.state === "running" && at > row.lastActiveAt) newer.set(id, at);
  }
  await touchSandboxes(context.database.sql, newer);
}

/** Tells the host which of its automatic pauses the database has; the others stay listed until it does. */
async function acknowledge(
  context: PassContext,
  client: HostClient,
  host: HostRow,
  list: ListSandboxesResponse,
): Promise<void> {
  const paused = list.autoPausedSandboxIds;
  if (paused.length === 0) return;
  const rows = await listSandboxesToReconcile(context.database.sql, host.id, paused);
  const recorded = new Map(rows.map((row) => [row.id, row]));
  const listed = new Map(list.sandboxes.map((info) => [info.sandboxId, info.snapshot?.snapshotId]));
  const acknowledged = paused.filter((id) => {
    const row = recorded.get(id);
    return !row || row.state === "deleted" || row.snapshot?.id === listed.get(id);
  });
  if (acknowledged.length > 0) await listSandboxes(client, host, acknowledged);
}
