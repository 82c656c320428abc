import { TorporError } from "@torpor/errors";
import { violates } from "./db_errors.ts";
import { named, type Queryable } from "./database.ts";
import type { SnapshotRow } from "./snapshots.ts";

/** How a snapshot came to be: by a name, as a checkpoint of a sandbox, or only for the children of a fork. */
export const SNAPSHOT_KINDS = ["named", "checkpoint", "fork"] as const;

/** One of {@linkcode SNAPSHOT_KINDS}. */
export type SnapshotKind = typeof SNAPSHOT_KINDS[number];

/** The states of a snapshot: `creating` becomes `ready` or `failed`; every state becomes `deleting`, then `deleted`. */
export const SNAPSHOT_STATES = ["creating", "ready", "failed", "deleting", "deleted"] as const;

/** One of {@linkcode SNAPSHOT_STATES}. */
export type SnapshotState = typeof SNAPSHOT_STATES[number];

/** What a snapshot consists of, once it is ready. */
export type KeptSnapshotSizes =
  & Pick<
    SnapshotRow,
    "generation" | "sizeBytes" | "memoryBytes" | "diskBytes" | "pagesResident" | "pagesDirty" | "pagesData"
  >
  & {
    /** How long the vCPUs of the source stood still, microseconds; 0 when it did not run. */
    stoppedUs: bigint;
  };

/** A snapshot that belongs to no sandbox: sandboxes are spawned from it. */
export interface KeptSnapshotRow {
  id: string;
  teamId: string;
  name: string;
  kind: SnapshotKind;
  /** true: every team sees it and may spawn from it; only an administrator makes or deletes it. */
  platform: boolean;
  state: SnapshotState;
  /** An error code when `failed`, else "". */
  reason: string;
  /** Where its data is. */
  hostId: string;
  /** The sandbox it was taken from; it may be deleted. */
  sandboxId: string;
  template: string;
  vcpus: number;
  memoryMb: number;
  diskSizeMb: number;
  /** null until it is ready. */
  sizes: KeptSnapshotSizes | null;
  createdAt: Date;
  stateChangedAt: Date;
  /** When it is deleted; null: never. */
  expiresAt: Date | null;
  deletedAt: Date | null;
}

type SnapshotRecord =
  & Omit<KeptSnapshotRow, "sizes">
  & { [Name in keyof KeptSnapshotSizes]: KeptSnapshotSizes[Name] | null };

function toRow(record: SnapshotRecord): KeptSnapshotRow {
  const { generation, sizeBytes, memoryBytes, diskBytes, pagesResident, pagesDirty, pagesData, stoppedUs, ...rest } =
    record;
  // The constraint snapshot_ready_complete: all eight are set or none.
  const sizes = { generation, sizeBytes, memoryBytes, diskBytes, pagesResident, pagesDirty, pagesData, stoppedUs };
  return { ...rest, sizes: generation === null ? null : sizes as KeptSnapshotSizes };
}

/** Runs a query whose rows are whole snapshots. */
export async function keptSnapshotRows(
  name: string,
  query: () => PromiseLike<readonly unknown[]>,
): Promise<KeptSnapshotRow[]> {
  return await named(name, async () => (await query() as SnapshotRecord[]).map(toRow));
}

/** The value of `expires_at`. @param expiresInSec seconds from now; 0: never. */
export function expiryOf(sql: Queryable, expiresInSec: number) {
  return sql`clock_timestamp() + nullif(${expiresInSec}::float8, 0) * interval '1 second'`;
}

/**
 * Writes a new snapshot in state `creating`, before the host is asked for it.
 * @param snapshot.expiresInSec seconds from now until it is deleted; 0 and absent: never.
 * @throws `already_exists` (field `name`) when the team, or for a platform snapshot any, has a live one of that name.
 */
export async function insertKeptSnapshot(
  sql: Queryable,
  snapshot:
    & Pick<
      KeptSnapshotRow,
      | "id"
      | "teamId"
      | "name"
      | "kind"
      | "platform"
      | "hostId"
      | "sandboxId"
      | "template"
      | "vcpus"
      | "memoryMb"
      | "diskSizeMb"
    >
    & { expiresInSec?: number },
): Promise<KeptSnapshotRow> {
  try {
    const rows = await keptSnapshotRows("insert_snapshot", () =>
      sql`
      insert into snapshots (id, team_id, name, kind, platform, state, host_id, sandbox_id, template, vcpus, memory_mb,
        disk_size_mb, expires_at)
      values (${snapshot.id}, ${snapshot.teamId}, ${snapshot.name}, ${snapshot.kind}, ${snapshot.platform}, 'creating',
        ${snapshot.hostId}, ${snapshot.sandboxId}, ${snapshot.template}, ${snapshot.vcpus}, ${snapshot.memoryMb},
        ${snapshot.diskSizeMb}, ${expiryOf(sql, snapshot.expiresInSec ?? 0)})
      returning *`);
    return rows[0]!;
  } catch (thrown) {
    if (!violates(thrown, "snapshots_live_name") && !violates(thrown, "snapshots_live_platform_name")) throw thrown;
    throw new TorporError("already_exists", `there is a snapshot named ${snapshot.name}`, {
      field: "name",
      hint: "choose another name, or delete that snapshot first",
      cause: thrown,
    });
  }
}

/** One snapshot whatever its team and state. */
export async function getKeptSnapshot(sql: Queryable, id: string): Promise<KeptSnapshotRow | undefined> {
  return (await keptSnapshotRows("get_snapshot", () => sql`select * from snapshots where id = ${id}`))[0];
}

/** As {@linkcode getKeptSnapshot}, locked until the transaction ends. */
export async function lockKeptSnapshot(sql: Queryable, id: string): Promise<KeptSnapshotRow | undefined> {
  return (await keptSnapshotRows("lock_snapshot", () => sql`select * from snapshots where id = ${id} for update`))[0];
}

/**
 * The snapshot that a team means by an id or a name: its own before a platform's, a live one before a failed one.
 * Deleted ones and those of forks are not found.
 */
export async function findKeptSnapshot(
  sql: Queryable,
  teamId: string,
  idOrName: string,
): Promise<KeptSnapshotRow | undefined> {
  const rows = await keptSnapshotRows("find_snapshot", () =>
    sql`
    select * from snapshots
    where (id = ${idOrName} or name = ${idOrName}) and (team_id = ${teamId} or platform)
      and state <> 'deleted' and kind <> 'fork'
    order by id = ${idOrName} desc, state in ('creating', 'ready') desc, team_id = ${teamId} desc, created_at desc
    limit 1`);
  return rows[0];
}

/** What changes along with a snapshot's state; `reason` becomes "" when it is not named. */
export interface KeptSnapshotChanges {
  reason?: string;
  sizes?: KeptSnapshotSizes;
}

/** Moves a snapshot to another state. @returns undefined when it is in none of the states `from`. */
export async function setKeptSnapshotState(
  sql: Queryable,
  id: string,
  from: readonly SnapshotState[],
  to: SnapshotState,
  { reason, sizes }: KeptSnapshotChanges = {},
): Promise<KeptSnapshotRow | undefined> {
  const rows = await keptSnapshotRows("set_snapshot_state", () =>
    sql`
    update snapshots set state = ${to}, reason = ${reason ?? ""}, state_changed_at = clock_timestamp(),
      deleted_at = case when ${to} = 'deleted' then clock_timestamp() end,
      generation = coalesce(${sizes?.generation ?? null}::int, generation),
      size_bytes = coalesce(${sizes?.sizeBytes ?? null}::int8, size_bytes),
      memory_bytes = coalesce(${sizes?.memoryBytes ?? null}::int8, memory_bytes),
      disk_bytes = coalesce(${sizes?.diskBytes ?? null}::int8, disk_bytes),
      pages_resident = coalesce(${sizes?.pagesResident ?? null}::int8, pages_resident),
      pages_dirty = coalesce(${sizes?.pagesDirty ?? null}::int8, pages_dirty),
      pages_data = coalesce(${sizes?.pagesData ?? null}::int8, pages_data),
      stopped_us = coalesce(${sizes?.stoppedUs ?? null}::int8, stopped_us)
    where id = ${id} and state = any(${[...from]}::text[])
    returning *`);
  return rows[0];
}

/**
 * Makes a snapshot ready again that had failed because its host was removed.
 * @returns undefined when it is no such one, or its name was taken meanwhile.
 */
export async function restoreKeptSnapshot(
  sql: Queryable,
  id: string,
  sizes: KeptSnapshotSizes,
): Promise<KeptSnapshotRow | undefined> {
  const taken = await named("find_taken_snapshot_name", () =>
    sql`
    select from snapshots lost join snapshots live on live.name = lost.name and live.state in ('creating', 'ready')
      and (live.team_id = lost.team_id or live.platform and lost.platform)
    where lost.id = ${id} and lost.state = 'failed'`);
  return taken.length > 0 ? undefined : await setKeptSnapshotState(sql, id, ["failed"], "ready", { sizes });
}

/** True while the operation that takes a snapshot has no outcome. */
export async function hasRunningSnapshotOperation(sql: Queryable, snapshotId: string): Promise<boolean> {
  const rows = await named("has_running_snapshot_operation", () =>
    sql`
    select from operations where snapshot_id = ${snapshotId} and state = 'running'`);
  return rows.length > 0;
}
