import type postgres from "@torpor/postgres";
import { named, type Queryable } from "./database.ts";

/** What a team has used on one day of UTC. */
export interface UsageDay {
  /** `2027-01-31` */
  day: string;
  /** vCPUs × seconds of running sandboxes. */
  vcpuSeconds: number;
  /** MiB × seconds of the same. */
  memoryMbSeconds: number;
  /** MiB × seconds of the disks of running sandboxes, by their size. */
  runningDiskMbSeconds: number;
  /** … and of paused ones. */
  pausedDiskMbSeconds: number;
  /** Bytes × seconds that snapshots store: those of paused sandboxes, and those that belong to none. */
  snapshotByteSeconds: number;
}

const TIME_COLUMNS = "team_id, began_at, ended_at, vcpus, memory_mb, running_disk_mb, paused_disk_mb, snapshot_bytes";

/** Sums of intervals by team and day. @param intervals a query or table with the columns of usage_intervals. */
function byDay(sql: Queryable, intervals: postgres.Fragment) {
  return sql`
    select team_id, day::date as day, sum(vcpus * seconds) as vcpu_seconds, sum(memory_mb * seconds) as memory_mb_seconds,
      sum(running_disk_mb * seconds) as running_disk_mb_seconds, sum(paused_disk_mb * seconds) as paused_disk_mb_seconds,
      sum(snapshot_bytes * seconds) as snapshot_byte_seconds
    from ${intervals} as used,
      generate_series(date_trunc('day', began_at at time zone 'UTC'), ended_at at time zone 'UTC', interval '1 day') as day,
      lateral (select greatest(0, extract(epoch from least(ended_at at time zone 'UTC', day + interval '1 day')
        - greatest(began_at at time zone 'UTC', day))) as seconds) as part
    group by team_id, day::date`;
}

/**
 * Adds up to `limit` intervals to their days and forgets them, in one statement. Several may run at the same time.
 * @returns how many.
 */
export async function foldUsage(sql: Queryable, limit: number): Promise<number> {
  const [row] = await named("fold_usage", () =>
    sql<{ count: number }[]>`
    with taken as (
      delete from usage_intervals where id in (
        select id from usage_intervals order by id limit ${limit} for update skip locked)
      returning *),
    folded as (
      insert into usage_days as days (team_id, day, vcpu_seconds, memory_mb_seconds, running_disk_mb_seconds,
        paused_disk_mb_seconds, snapshot_byte_seconds)
      select * from (${byDay(sql, sql`taken`)}) as sums order by team_id, day
      on conflict (team_id, day) do update set vcpu_seconds = days.vcpu_seconds + excluded.vcpu_seconds,
        memory_mb_seconds = days.memory_mb_seconds + excluded.memory_mb_seconds,
        running_disk_mb_seconds = days.running_disk_mb_seconds + excluded.running_disk_mb_seconds,
        paused_disk_mb_seconds = days.paused_disk_mb_seconds + excluded.paused_disk_mb_seconds,
        snapshot_byte_seconds = days.snapshot_byte_seconds + excluded.snapshot_byte_seconds)
    select count(*)::int as count from taken`);
  return row!.count;
}

/**
 * What a team has used by day, up to this moment: folded, not yet folded, and what is under way, in one snapshot.
 * @param from the first day, @param to the last one, `2027-01-31`. Days without any use are left out.
 */
export async function getUsage(sql: Queryable, teamId: string, from: string, to: string): Promise<UsageDay[]> {
  const columns = sql.unsafe(TIME_COLUMNS);
  const open = sql`(
    select ${columns} from usage_intervals where team_id = ${teamId}
    union all
    select used.* from sandboxes, lateral (select ${columns} from sandbox_usage(sandboxes, clock_timestamp())) as used
    where sandboxes.team_id = ${teamId} and state <> 'deleted'
    union all
    select used.* from snapshots, lateral (select ${columns} from snapshot_usage(snapshots, clock_timestamp())) as used
    where snapshots.team_id = ${teamId} and state = 'ready')`;
  const rows = await named("get_usage", () =>
    sql<UsageDay[]>`
    select to_char(day, 'YYYY-MM-DD') as day, sum(vcpu_seconds)::float8 as vcpu_seconds,
      sum(memory_mb_seconds)::float8 as memory_mb_seconds,
      sum(running_disk_mb_seconds)::float8 as running_disk_mb_seconds,
      sum(paused_disk_mb_seconds)::float8 as paused_disk_mb_seconds,
      sum(snapshot_byte_seconds)::float8 as snapshot_byte_seconds
    from (select * from usage_days where team_id = ${teamId} union all ${byDay(sql, open)}) as parts
    where day between ${from}::date and ${to}::date
    group by day order by day`);
  return [...rows];
}
