import type postgres from "@torpor/postgres";
import { named, type Queryable } from "./database.ts";
import { readCursor, writeCursor } from "./cursor.ts";
import { type KeptSnapshotRow, keptSnapshotRows } from "./kept_snapshots.ts";

/** One page of snapshots, newest first. */
export interface KeptSnapshotPage {
  snapshots: KeptSnapshotRow[];
  /** "" on the last page. */
  nextCursor: string;
}

/**
 * A page of the snapshots that a team may use: its own and the platform's, without deleted ones and those of forks.
 * @throws `invalid_argument` (field `cursor`).
 */
export async function listKeptSnapshots(
  sql: Queryable,
  teamId: string,
  page: { limit?: number; cursor?: string } = {},
): Promise<KeptSnapshotPage> {
  const limit = page.limit ?? 100;
  const after = page.cursor ? readCursor(page.cursor) : undefined;
  const rows = await keptSnapshotRows("list_snapshots", () =>
    sql`
    select * from snapshots
    where (team_id = ${teamId} or (platform and state = 'ready')) and state <> 'deleted' and kind <> 'fork'
      ${after ? sql`and (created_at, id) < (${after.createdAt}::timestamptz, ${after.id})` : sql``}
    order by created_at desc, id desc
    limit ${limit + 1}`);
  const snapshots = rows.slice(0, limit);
  const last = snapshots.at(-1);
  return { snapshots, nextCursor: rows.length > limit && last ? writeCursor(last) : "" };
}

/** A snapshot to compare with its host's, and whether the operation that makes it still runs. */
export type KeptSnapshotToReconcile = KeptSnapshotRow & { inOperation: boolean };

/** The ids of a host's snapshots that have changed since then, or are on their way to another state. */
export async function listUnsettledKeptSnapshotIds(sql: Queryable, hostId: string, since: Date): Promise<string[]> {
  const rows = await named("list_unsettled_snapshots", () =>
    sql<{ id: string }[]>`
    select id from snapshots where host_id = ${hostId} and state <> 'deleted'
      and (state in ('creating', 'deleting') or state_changed_at >= ${since})`);
  return rows.map(({ id }) => id);
}

/** These snapshots, whatever their host and state. */
export async function getKeptSnapshotsToReconcile(
  sql: Queryable,
  ids: readonly string[],
): Promise<KeptSnapshotToReconcile[]> {
  return ids.length === 0 ? [] : await toReconcile(sql, sql`id = any(${[...ids]}::text[])`);
}

/** What the reconciler compares with a host's list: all that should be there, and all rows of what is there. */
export async function listKeptSnapshotsToReconcile(
  sql: Queryable,
  hostId: string,
  listedIds: string[],
): Promise<KeptSnapshotToReconcile[]> {
  return await toReconcile(
    sql,
    sql`(host_id = ${hostId} and state <> 'deleted') or id = any(${listedIds}::text[])`,
  );
}

async function toReconcile(sql: Queryable, which: postgres.Fragment): Promise<KeptSnapshotToReconcile[]> {
  return await keptSnapshotRows("list_snapshots_to_reconcile", () =>
    sql`
    select *, exists (select from operations where snapshot_id = snapshots.id and kind = 'snapshot' and state = 'running')
      as in_operation
    from snapshots where ${which}`) as KeptSnapshotToReconcile[];
}
