import {
  type Database,
  type HostRow,
  type KeptSnapshotChanges,
  type KeptSnapshotSizes,
  type KeptSnapshotToReconcile,
  listKeptSnapshotsToReconcile,
  recordStoredBytes,
  restoreKeptSnapshot,
  setKeptSnapshotState,
  type SnapshotState,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { type HostClient, removeSnapshot } from "@torpor/lifecycle";
import type { KeptSnapshot } from "@torpor/proto/hostagent";
import { log } from "@torpor/telemetry";
import { judgeSnapshot, type SnapshotVerdict } from "./judge_snapshot.ts";
import { measuredBytes } from "./measured_bytes.ts";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** A host agent lists from memory, ms. */
const LIST_TIMEOUT_MS = 5_000;

/** Deleting frees files, ms. */
const DELETE_TIMEOUT_MS = 30_000;

/**
 * Compares the snapshots of one host that belong to no sandbox with the database, in both directions, and repairs what
 * differs.
 * @param takenAt the database's time before the host is asked.
 */
export async function reconcileSnapshots(
  context: PassContext,
  client: HostClient,
  host: HostRow,
  takenAt: Date,
): Promise<Repair[]> {
  let snapshots: KeptSnapshot[];
  try {
    snapshots = (await client.listSnapshots({}, { timeoutMs: LIST_TIMEOUT_MS })).snapshots;
  } catch (thrown) {
    log("warn", "snapshots_not_listed", { host_id: host.id }, thrown);
    return [];
  }
  const listed = new Map(snapshots.map((one) => [one.snapshot?.snapshotId ?? "", one]));
  await recordStoredBytes(context.database.sql, "snapshots", host.id, measuredBytes(listed));
  const known = await listKeptSnapshotsToReconcile(context.database.sql, host.id, [...listed.keys()]);
  const rows = new Map(known.map((row) => [row.id, row]));
  const repairs: (Repair | undefined)[] = [];
  for (const id of new Set([...rows.keys(), ...listed.keys()])) {
    const row = rows.get(id);
    const verdict = judgeSnapshot(row, listed.get(id), { hostId: host.id, takenAt, graceMs: context.graceMs });
    if (verdict.do !== "nothing") repairs.push(await repair(context, client, host, id, row, verdict));
  }
  return repairs.filter((one) => one !== undefined);
}

async function repair(
  { database, host: hostAt, repairs }: PassContext,
  client: HostClient,
  host: HostRow,
  snapshotId: string,
  row: KeptSnapshotToReconcile | undefined,
  verdict: Exclude<SnapshotVerdict, { do: "nothing" }>,
): Promise<Repair | undefined> {
  const about = { snapshotId, sandboxId: row?.sandboxId, hostId: host.id, fromState: row?.state };
  switch (verdict.do) {
    case "adopt":
      return await repairs.carryOut(
        { ...about, kind: "snapshot_adopted", toState: "ready" },
        () => change(database, row!, "ready", { sizes: verdict.sizes }),
      );
    case "restore":
      return await repairs.carryOut(
        { ...about, kind: "host_returned", toState: "ready" },
        () => restore(database, row!, verdict.sizes),
      );
    case "mark_failed":
      return await repairs.carryOut(
        { ...about, kind: verdict.kind, toState: "failed", reason: verdict.reason },
        () => change(database, row!, "failed", { reason: verdict.reason }),
      );
    case "remove":
      return await repairs.carryOut(
        { ...about, kind: "snapshot_delete_repeated", toState: "deleted" },
        () => removeSnapshot(database, hostAt, row!),
      );
    case "remove_orphan":
      return await repairs.carryOut(
        { ...about, kind: "snapshot_orphan_deleted", toState: row?.state },
        () => client.deleteSnapshot({ snapshotId }, { timeoutMs: DELETE_TIMEOUT_MS }),
      );
  }
}

/** @throws `conflict` when it has changed since it was judged, or its name is taken: then it stays as it is, with its data. */
async function restore(database: Database, row: KeptSnapshotToReconcile, listed: KeptSnapshotSizes): Promise<void> {
  const { id, sizes } = row;
  const ready = await database.transaction("restore_snapshot", (sql) => restoreKeptSnapshot(sql, id, sizes ?? listed));
  if (!ready) throw new TorporError("conflict", `snapshot ${id} has changed, or another one has its name`);
}

/** @throws `conflict` when the snapshot has changed since it was judged. */
async function change(
  database: Database,
  { id, state }: KeptSnapshotToReconcile,
  to: SnapshotState,
  changes: KeptSnapshotChanges,
): Promise<void> {
  if (await setKeptSnapshotState(database.sql, id, [state], to, changes)) return;
  throw new TorporError("conflict", `snapshot ${id} is no longer ${state}`);
}
