import {
  type Database,
  getKeptSnapshotsToReconcile,
  type HostRow,
  type KeptSnapshotChanges,
  type KeptSnapshotSizes,
  type KeptSnapshotToReconcile,
  listKeptSnapshotsToReconcile,
  listUnsettledKeptSnapshotIds,
  recordStoredBytes,
  restoreKeptSnapshot,
  setKeptSnapshotState,
  type SnapshotState,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { type HostClient, removeSnapshot } from "@torpor/lifecycle";
import type { ListSnapshotsRequest } from "@torpor/proto/hostagent";
import { log } from "@torpor/telemetry";
import type { SnapshotView } from "./host_views.ts";
import { judgeSnapshot, type SnapshotVerdict } from "./judge_snapshot.ts";
import { measuredBytes } from "./measured_bytes.ts";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** A host agent lists from memory, ms. */
const LIST_TIMEOUT_MS = 5_000;

/** Deleting frees files, ms. */
const DELETE_TIMEOUT_MS = 30_000;

/** What nobody has told is found within so many passes: five minutes. */
const COMPLETE_EVERY_PASSES = 60;

/**
 * Compares the snapshots of one host that belong to no sandbox with the database, in both directions, and repairs what
 * differs: what has changed on either side, and now and then everything.
 * @param takenAt the database's time before the host is asked.
 * @param comparedUntil what changed before this time need not be compared again by the next pass.
 */
export async function reconcileSnapshots(
  context: PassContext,
  client: HostClient,
  host: HostRow,
  view: SnapshotView,
  { takenAt, comparedUntil }: { takenAt: Date; comparedUntil: Date },
): Promise<Repair[]> {
  const { sql } = context.database;
  const comparison = await compare(context.database, client, host, view);
  if (!comparison) return [];
  const { listed, rows, epoch, revision, complete } = comparison;
  await recordStoredBytes(sql, "snapshots", host.id, measuredBytes(listed));
  const repairs: (Repair | undefined)[] = [];
  const watched = new Set<string>();
  for (const id of new Set([...rows.keys(), ...listed.keys()])) {
    const [row, info] = [rows.get(id), listed.get(id)];
    const verdict = judgeSnapshot(row, info, { hostId: host.id, takenAt, graceMs: context.graceMs });
    const done = verdict.do === "nothing" ? undefined : await repair(context, client, host, id, row, verdict);
    repairs.push(done);
    // Young orphans, and repairs that could not be done.
    const isOrphan = info !== undefined && (!row || row.state === "deleted" || row.hostId !== host.id);
    if (verdict.do === "nothing" ? isOrphan : !done) watched.add(id);
  }
  // Only now: a pass that was cut short is repeated with the same questions.
  Object.assign(view, { epoch, revision, comparedUntil, watched, passes: complete ? 0 : view.passes + 1 });
  return repairs.filter((one) => one !== undefined);
}

/** What a host and the database say of the same snapshots; undefined: the host did not answer. */
async function compare({ sql }: Database, client: HostClient, host: HostRow, view: SnapshotView) {
  const { epoch, revision: sinceRevision, comparedUntil, watched, passes } = view;
  const since = epoch !== "" && passes < COMPLETE_EVERY_PASSES ? comparedUntil : undefined;
  const asked = since ? [...watched, ...await listUnsettledKeptSnapshotIds(sql, host.id, since)] : [];
  const answer = await ask(client, host, since && { epoch, sinceRevision, snapshotIds: asked });
  if (!answer) return undefined;
  const { list, complete } = answer;
  const listed = new Map(list.snapshots.map((one) => [one.snapshot?.snapshotId ?? "", one]));
  // Read after the host was asked.
  const known = complete
    ? await listKeptSnapshotsToReconcile(sql, host.id, [...listed.keys()])
    : await getKeptSnapshotsToReconcile(sql, [...asked, ...listed.keys(), ...list.removedSnapshotIds]);
  const rows = new Map(known.map((row) => [row.id, row]));
  return { listed, rows, epoch: list.epoch, revision: list.revision, complete };
}

/** Asks for changes, and for everything when they are not known, to the caller or to the host. */
async function ask(client: HostClient, host: HostRow, changes: SnapshotQuestion | undefined) {
  try {
    const list = changes && await client.listSnapshots(changes, { timeoutMs: LIST_TIMEOUT_MS });
    if (list?.changesComplete) return { list, complete: false };
    return { list: await client.listSnapshots({}, { timeoutMs: LIST_TIMEOUT_MS }), complete: true };
  } catch (thrown) {
    log("warn", "snapshots_not_listed", { host_id: host.id }, thrown);
    return undefined;
  }
}

type SnapshotQuestion = Pick<ListSnapshotsRequest, "epoch" | "sinceRevision" | "snapshotIds">;

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
