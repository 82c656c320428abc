import type { Queryable } from "./database.ts";
import { expiryOf, type KeptSnapshotRow, keptSnapshotRows } from "./kept_snapshots.ts";

/**
 * Sets when a snapshot is deleted.
 * @param expiresInSec seconds from now; 0: never.
 * @returns undefined when it is not alive any more, or the snapshot of a fork.
 */
export async function setKeptSnapshotExpiry(
  sql: Queryable,
  id: string,
  expiresInSec: number,
): Promise<KeptSnapshotRow | undefined> {
  const rows = await keptSnapshotRows("set_snapshot_expiry", () =>
    sql`
    update snapshots set expires_at = ${expiryOf(sql, expiresInSec)}
    where id = ${id} and state in ('creating', 'ready') and kind <> 'fork'
    returning *`);
  return rows[0];
}

/**
 * Moves up to `limit` snapshots whose time is over to `deleting`. Rows that another transaction holds, because it spawns
 * from them, changes their time or deletes them, are left for the next sweep.
 */
export async function expireKeptSnapshots(sql: Queryable, limit: number): Promise<KeptSnapshotRow[]> {
  return await keptSnapshotRows("expire_snapshots", () =>
    sql`
    update snapshots set state = 'deleting', state_changed_at = clock_timestamp()
    where id in (
      select id from snapshots where state = 'ready' and expires_at <= now()
      order by expires_at limit ${limit} for update skip locked)
    returning *`);
}

/**
 * Moves up to `limit` snapshots that have been `failed` for longer than `retentionMs` to `deleting`, but not those that only
 * wait for a host that was removed.
 */
export async function expireFailedSnapshots(
  sql: Queryable,
  retentionMs: number,
  limit: number,
): Promise<KeptSnapshotRow[]> {
  return await keptSnapshotRows("expire_failed_snapshots", () =>
    sql`
    update snapshots set state = 'deleting', reason = '', state_changed_at = clock_timestamp()
    where id in (
      select id from snapshots
      where state = 'failed' and reason <> 'host_removed' and state_changed_at <= now() - ${retentionMs}::float8 * interval '1 millisecond'
      order by state_changed_at limit ${limit} for update skip locked)
    returning *`);
}
