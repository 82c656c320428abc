import type postgres from "@torpor/postgres";
import { named, type Queryable } from "./database.ts";
import { quotaExceeded } from "./db_errors.ts";

/** What a team may have at the same time, and how often it may call; null: no limit. */
export interface TeamLimits {
  /** Calls a second, on all api processes together; as many at once. */
  requestsPerS: number | null;
  /** Sandboxes that are neither failed nor deleted. */
  maxSandboxes: number | null;
  /** Those that have a VM, or are about to, or whose host is silent. */
  maxRunningSandboxes: number | null;
  /** vCPUs of those. */
  maxVcpus: number | null;
  /** RAM of those, MiB. */
  maxMemoryMb: number | null;
  /** Disks of all sandboxes by their size, and what snapshots store, MiB. */
  maxDiskMb: number | null;
  /** Snapshots that belong to no sandbox. */
  maxSnapshots: number | null;
  /** What hosts store for it, as they have measured it, bytes. */
  maxStoredBytes: number | null;
}

/** A team without limits. */
export const NO_LIMITS: TeamLimits = {
  requestsPerS: null,
  maxSandboxes: null,
  maxRunningSandboxes: null,
  maxVcpus: null,
  maxMemoryMb: null,
  maxDiskMb: null,
  maxSnapshots: null,
  maxStoredBytes: null,
};

/** What a team has now, in the units of {@linkcode TeamLimits}. */
export interface TeamUse {
  sandboxes: number;
  runningSandboxes: number;
  vcpus: number;
  memoryMb: number;
  diskMb: number;
  snapshots: number;
  storedBytes: number;
}

type LimitsRecord = { [Name in keyof TeamLimits]: bigint | number | null } & { teamId: string };

function toLimits(record: LimitsRecord): TeamLimits {
  const names = Object.keys(NO_LIMITS) as (keyof TeamLimits)[];
  return Object.fromEntries(
    names.map((name) => [name, record[name] === null ? null : Number(record[name])]),
  ) as unknown as TeamLimits;
}

/** The limits of these teams. */
export async function getTeamLimits(sql: Queryable, teamIds: readonly string[]): Promise<Map<string, TeamLimits>> {
  const rows = await named(
    "get_team_limits",
    () => sql<LimitsRecord[]>`select * from team_limits where team_id = any(${[...teamIds]}::text[])`,
  );
  const found = new Map(rows.map((row) => [row.teamId, toLimits(row)]));
  return new Map(teamIds.map((id) => [id, found.get(id) ?? NO_LIMITS]));
}

/** Counts what these teams have, in the tables themselves. */
export async function countTeamUse(sql: Queryable, teamIds: readonly string[]): Promise<Map<string, TeamUse>> {
  const rows = await named("count_team_use", () =>
    sql<({ teamId: string } & { [Name in keyof TeamUse]: bigint })[]>`
    select id as team_id, sandboxes, running_sandboxes, vcpus, memory_mb, disk_mb + stored_mb as disk_mb, snapshots,
      bytes_of_sandboxes + bytes_of_snapshots as stored_bytes
    from unnest(${[...teamIds]}::text[]) as asked (id), ${useOf(sql, sql`asked.id`)}`);
  const toUse = (row: { [Name in keyof TeamUse]: bigint }): TeamUse => ({
    sandboxes: Number(row.sandboxes),
    runningSandboxes: Number(row.runningSandboxes),
    vcpus: Number(row.vcpus),
    memoryMb: Number(row.memoryMb),
    diskMb: Number(row.diskMb),
    snapshots: Number(row.snapshots),
    storedBytes: Number(row.storedBytes),
  });
  return new Map(rows.map((row) => [row.teamId, toUse(row)]));
}

/** The rules are those of the triggers account_sandbox, account_snapshot and account_removed_bytes. */
function useOf(sql: Queryable, teamId: postgres.Fragment) {
  return sql`lateral (
    select count(*) filter (where is_there(s)) as sandboxes, count(*) filter (where is_up(s)) as running_sandboxes,
      coalesce(sum(s.vcpus) filter (where is_up(s)), 0)::int8 as vcpus,
      coalesce(sum(s.memory_mb) filter (where is_up(s)), 0)::int8 as memory_mb,
      coalesce(sum(s.disk_size_mb) filter (where is_there(s)), 0)::int8 as disk_mb,
      coalesce(sum(s.unique_bytes + s.shared_bytes), 0)::int8 as bytes_of_sandboxes
    from sandboxes s where s.team_id = ${teamId} and s.state <> 'deleted') as of_sandboxes, lateral (
    select count(*) filter (where is_counted(k)) as snapshots, coalesce(sum(stored_mb(k)), 0)::int8 as stored_mb,
      coalesce(sum(k.unique_bytes + k.shared_bytes), 0)::int8 as bytes_of_snapshots
    from snapshots k where k.team_id = ${teamId} and state <> 'deleted') as of_snapshots`;
}

/**
 * Changes limits of a team; what is absent stays. Part of the caller's transaction. What the team has beyond a new limit
 * stays; only more is refused.
 */
export async function setTeamLimits(sql: Queryable, teamId: string, limits: Partial<TeamLimits>): Promise<void> {
  if (Object.keys(limits).length === 0) return;
  await named("set_team_limits", async () => {
    const [row] = await sql<LimitsRecord[]>`select * from team_limits where team_id = ${teamId} for update`;
    if (!row) {
      if (Object.values(limits).every((limit) => limit === null)) return;
      await beginToCount(sql, teamId);
    }
    const next = { ...row ? toLimits(row) : NO_LIMITS, ...limits };
    await sql`
      update team_limits set requests_per_s = ${next.requestsPerS}, max_sandboxes = ${next.maxSandboxes},
        max_running_sandboxes = ${next.maxRunningSandboxes}, max_vcpus = ${next.maxVcpus},
        max_memory_mb = ${next.maxMemoryMb}, max_disk_mb = ${next.maxDiskMb}, max_snapshots = ${next.maxSnapshots},
        max_stored_bytes = ${next.maxStoredBytes}
      where team_id = ${teamId}`;
    if (next.requestsPerS === null) await sql`delete from team_buckets where team_id = ${teamId}`;
  });
}

/** Writes the row that triggers count in from now on. Changes that are under way are waited for, to be counted here. */
async function beginToCount(sql: Queryable, teamId: string): Promise<void> {
  await sql`lock table sandboxes, snapshots in share mode`;
  await sql`
    insert into team_limits (team_id, sandboxes, running_sandboxes, vcpus, memory_mb, disk_mb, snapshots, stored_bytes)
    select ${teamId}, sandboxes, running_sandboxes, vcpus, memory_mb, disk_mb + stored_mb, snapshots,
      bytes_of_sandboxes + bytes_of_snapshots
    from ${useOf(sql, sql`${teamId}`)}
    on conflict do nothing`;
}

/** Lets a team have nothing more. Part of the caller's transaction. */
export async function forbidAll(sql: Queryable, teamId: string): Promise<void> {
  await setTeamLimits(sql, teamId, {
    maxSandboxes: 0,
    maxRunningSandboxes: 0,
    maxVcpus: 0,
    maxMemoryMb: 0,
    maxDiskMb: 0,
    maxSnapshots: 0,
    maxStoredBytes: 0,
  });
}

/**
 * Refuses early what would be refused later, when work would have been done for nothing. Not exact: others may ask for
 * the same room, and the insert of each sandbox decides.
 * @param count how many sandboxes of this size.
 * @throws `quota_exceeded`.
 */
export async function requireTeamRoom(
  sql: Queryable,
  teamId: string,
  count: number,
  size: { vcpus: number; memoryMb: number; diskSizeMb: number },
): Promise<void> {
  const [row] = await named(
    "require_team_room",
    () =>
      sql<(LimitsRecord & { [Name in keyof TeamUse]: bigint })[]>`select * from team_limits where team_id = ${teamId}`,
  );
  if (!row) return;
  const wanted = [
    ["max_sandboxes", row.maxSandboxes, row.sandboxes, 1],
    ["max_running_sandboxes", row.maxRunningSandboxes, row.runningSandboxes, 1],
    ["max_vcpus", row.maxVcpus, row.vcpus, size.vcpus],
    ["max_memory_mb", row.maxMemoryMb, row.memoryMb, size.memoryMb],
    ["max_disk_mb", row.maxDiskMb, row.diskMb, size.diskSizeMb],
    // What they will store is not known.
    ["max_stored_bytes", row.maxStoredBytes, row.storedBytes, 1 / count],
  ] as const;
  for (const [limit, most, used, each] of wanted) {
    const met = { limit, most: Number(most), used: Number(used), asked: Math.round(count * each) };
    if (most !== null && met.used + met.asked > met.most) throw quotaExceeded(met);
  }
}

/** In this transaction no limit refuses anything: what a host has done by itself is written down as it is. */
export async function waiveLimits(sql: Queryable): Promise<void> {
  await named("waive_limits", () => sql`select set_config('torpor.limits_waived', 'on', true)`);
}
