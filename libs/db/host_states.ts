import { named, type Queryable } from "./database.ts";
import type { HostRow } from "./hosts.ts";
import type { SandboxRow } from "./sandboxes.ts";

/** What a host holds that its removal would lose. */
export interface HostContents {
  /** Sandboxes that are not `deleted`. */
  sandboxes: number;
  /** Snapshots of their own that are not `deleted`. */
  snapshots: number;
}

/** A host, by its id or its name, locked until the transaction ends. Removed ones are not found. */
export async function lockHost(sql: Queryable, idOrName: string): Promise<Pick<HostRow, "id" | "name"> | undefined> {
  const rows = await named("lock_host", () =>
    sql<Pick<HostRow, "id" | "name">[]>`
    select id, name from hosts where (id = ${idOrName} or name = ${idOrName}) and removed_at is null
    order by id = ${idOrName} desc, last_heartbeat_at desc limit 1 for update`);
  return rows[0];
}

/** How many hosts that are not removed have this name. */
export async function countHostsNamed(sql: Queryable, name: string): Promise<number> {
  const rows = await named("count_hosts_named", () =>
    sql<{ count: number }[]>`
    select count(*)::int as count from hosts where name = ${name} and removed_at is null`);
  return rows[0]!.count;
}

/** Whether a host takes new sandboxes, and whether those that run there are to be paused. */
export async function setHostPlacement(
  sql: Queryable,
  id: string,
  placement: "open" | "cordoned" | "draining",
): Promise<void> {
  await named("set_host_placement", () =>
    sql`
    update hosts set draining = ${placement !== "open"},
      drain_started_at = case when ${placement === "draining"} then coalesce(drain_started_at, clock_timestamp()) end
    where id = ${id}`);
}

/** What a host holds. */
export async function hostContents(sql: Queryable, id: string): Promise<HostContents> {
  const rows = await named("host_contents", () =>
    sql<HostContents[]>`
    select (select count(*)::int from sandboxes where host_id = ${id} and state <> 'deleted') as sandboxes,
      (select count(*)::int from snapshots where host_id = ${id} and state <> 'deleted') as snapshots`);
  return rows[0]!;
}

/** How many sandboxes of a host run, or are about to, or are being paused. */
export async function countActiveSandboxes(sql: Queryable, hostId: string): Promise<number> {
  const rows = await named("count_active_sandboxes", () =>
    sql<{ count: number }[]>`
    select count(*)::int as count from sandboxes where host_id = ${hostId}
      and state in ('starting', 'running', 'pausing', 'resuming', 'snapshotting')`);
  return rows[0]!.count;
}

/** Takes a host out for good: it gets no sandboxes, and is refused when it reports. */
export async function setHostRemoved(sql: Queryable, id: string): Promise<void> {
  await named("set_host_removed", () =>
    sql`
    update hosts set draining = true, removed_at = coalesce(removed_at, clock_timestamp()) where id = ${id}`);
}

/** Lets a host that was removed join again. @returns false when it was not removed. */
export async function readmitHost(sql: Queryable, id: string): Promise<boolean> {
  const rows = await named("readmit_host", () =>
    sql`
    update hosts set draining = false, drain_started_at = null, removed_at = null
    where id = ${id} and removed_at is not null returning id`);
  return rows.length > 0;
}

/** Ids of removed hosts with sandboxes or snapshots that nobody has given up yet. */
export async function removedHostsInUse(sql: Queryable): Promise<string[]> {
  return await named("removed_hosts_in_use", async () => {
    const rows = await sql<{ id: string }[]>`
      select id from hosts where removed_at is not null and (
        exists (select from sandboxes where host_id = hosts.id and state not in ('failed', 'deleted')
          and not (state = 'lost' and reason = 'host_removed'))
        or exists (select from snapshots where host_id = hosts.id and state not in ('failed', 'deleted')))`;
    return rows.map(({ id }) => id);
  });
}

/** Sandboxes of a removed host that no operation holds and that are not given up yet, as the caller will judge them. */
export async function listSandboxesToGiveUp(
  sql: Queryable,
  hostId: string,
  limit: number,
): Promise<Pick<SandboxRow, "id" | "version" | "state">[]> {
  return await named("list_sandboxes_to_give_up", async () => [
    ...await sql<Pick<SandboxRow, "id" | "version" | "state">[]>`
      select id, version, state from sandboxes
      where host_id = ${hostId} and (state in ('running', 'paused') or state = 'lost' and reason <> 'host_removed') limit ${limit}`,
  ]);
}

/** Why a sandbox that is lost already is so by now. */
export async function setLostReason(sql: Queryable, id: string, reason: string): Promise<void> {
  await named("set_lost_reason", () =>
    sql`
    update sandboxes set reason = ${reason} where id = ${id} and state = 'lost'`);
}

/** Running sandboxes of hosts that are being drained, oldest use first. */
export async function listSandboxesToDrain(
  sql: Queryable,
  limit: number,
): Promise<{ id: string; teamId: string; hostId: string }[]> {
  return await named("list_sandboxes_to_drain", async () => [
    ...await sql<{ id: string; teamId: string; hostId: string }[]>`
      select sandboxes.id, sandboxes.team_id, sandboxes.host_id from hosts join sandboxes on sandboxes.host_id = hosts.id
      where hosts.drain_started_at is not null and hosts.removed_at is null and hosts.unreachable_since is null
        and sandboxes.state = 'running'
      order by sandboxes.last_active_at limit ${limit}`,
  ]);
}
