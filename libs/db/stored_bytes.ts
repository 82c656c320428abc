import { named, type Queryable } from "./database.ts";

/** What a host stores, bytes: for nobody else, and as a part of what is stored for others, too. */
export interface StoredBytes {
  uniqueBytes: bigint;
  sharedBytes: bigint;
}

/** What is stored for a team, on all hosts. */
export interface TeamStorage {
  /** Snapshots and live disks of its sandboxes. */
  sandboxes: StoredBytes;
  /** Its snapshots that belong to no sandbox. */
  snapshots: StoredBytes;
}

/**
 * Writes down what a host has measured, and counts it for teams with limits. Rows that say so already are left alone, and
 * so are those of other hosts. Rows are locked before teams, as the triggers of a lifecycle step lock them.
 * @param table whose rows the ids are.
 */
export async function recordStoredBytes(
  sql: Queryable,
  table: "sandboxes" | "snapshots",
  hostId: string,
  measured: ReadonlyMap<string, StoredBytes>,
): Promise<void> {
  if (measured.size === 0) return;
  const values = [...measured.values()];
  await named(`record_stored_bytes_of_${table}`, () =>
    sql`
    with measured as (
      select * from unnest(${[...measured.keys()]}::text[], ${
      values.map(({ uniqueBytes }) => String(uniqueBytes))
    }::int8[],
        ${values.map(({ sharedBytes }) => String(sharedBytes))}::int8[]) as measured (id, unique_bytes, shared_bytes)),
    changed as (
      select id, team_id, measured.unique_bytes, measured.shared_bytes,
        measured.unique_bytes + measured.shared_bytes - stored.unique_bytes - stored.shared_bytes as more
      from ${sql(table)} as stored join measured using (id)
      where stored.host_id = ${hostId} and stored.state <> 'deleted'
        and (stored.unique_bytes, stored.shared_bytes) <> (measured.unique_bytes, measured.shared_bytes)
      order by id for no key update of stored),
    written as (
      update ${sql(table)} as stored set unique_bytes = changed.unique_bytes, shared_bytes = changed.shared_bytes
      from changed where stored.id = changed.id returning changed.team_id, changed.more)
    update team_limits set stored_bytes = stored_bytes + of_team.more
    from (select team_id, sum(more)::int8 as more from written group by team_id) as of_team
    where team_limits.team_id = of_team.team_id`);
}

/**
 * What is stored for a team, as its hosts have measured it last. The sums over all teams are what hosts store for them: what
 * several share is divided among them.
 */
export async function storedBytesOfTeam(sql: Queryable, teamId: string): Promise<TeamStorage> {
  const rows = await named("stored_bytes_of_team", () =>
    sql<StoredBytes[]>`
    select coalesce(sum(unique_bytes), 0)::int8 as unique_bytes, coalesce(sum(shared_bytes), 0)::int8 as shared_bytes
    from sandboxes where team_id = ${teamId} and state <> 'deleted'
    union all
    select coalesce(sum(unique_bytes), 0)::int8, coalesce(sum(shared_bytes), 0)::int8
    from snapshots where team_id = ${teamId} and state <> 'deleted'`);
  return { sandboxes: { ...rows[0]! }, snapshots: { ...rows[1]! } };
}
