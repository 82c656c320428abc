import { named, type Queryable } from "./database.ts";
import { HOST_READY_MS, type HostCapacity } from "./hosts.ts";
import type { SandboxState } from "./sandboxes.ts";

/** Capacity of a host that is set aside for one sandbox. */
export interface ReservationRow extends HostCapacity {
  sandboxId: string;
  hostId: string;
  /** null: bound to a sandbox that runs there or keeps its disk there. */
  expiresAt: Date | null;
}

/** What a placement asks for. */
export interface PlacementRequest {
  sandboxId: string;
  resources: HostCapacity;
  requiredCapabilities: string[];
  /** When not empty, only these hosts. */
  eligibleHostIds: string[];
  /** Only hosts that have all of these labels. */
  hostLabels: Record<string, string>;
}

/** Which of the hosts that have room is taken: the one with the most free memory, or the one with the least. */
export const PLACEMENT_STRATEGIES = ["spread", "pack"] as const;

/** One of {@linkcode PLACEMENT_STRATEGIES}. */
export type PlacementStrategy = typeof PLACEMENT_STRATEGIES[number];

/** How hosts are chosen, how many times its capacity one may have reserved, and how long an unbound reservation holds. */
export interface PlacementPolicy {
  strategy: PlacementStrategy;
  vcpuOvercommit: number;
  memoryOvercommit: number;
  diskOvercommit: number;
  reservationTtlMs: number;
}

/** A sandbox's reservation, locked until the transaction ends. */
export async function lockReservation(sql: Queryable, sandboxId: string): Promise<ReservationRow | undefined> {
  const rows = await named("lock_reservation", () =>
    sql<ReservationRow[]>`
    select sandbox_id, host_id, vcpus, memory_mb, disk_mb, expires_at from reservations
    where sandbox_id = ${sandboxId} for update`);
  return rows[0];
}

/**
 * Locks the ready host that the policy's strategy prefers of those that have room for the request.
 * A host that another placement holds is passed over while there are others; when there are none it is waited for, and
 * PostgreSQL then checks the room again on the row as it has become: this is what makes over-commit impossible.
 * @param held what the sandbox already holds; it counts as free on that host.
 * @returns the chosen host, or undefined when none has room.
 */
export async function lockBestHost(
  sql: Queryable,
  request: PlacementRequest,
  policy: PlacementPolicy,
  held: ReservationRow | undefined,
): Promise<{ id: string; address: string } | undefined> {
  return await named("lock_best_host", async () => {
    const [free] = await candidates(sql, request, policy, held, "skip locked");
    if (free) return free;
    const [waited] = await candidates(sql, request, policy, held, "wait");
    return waited;
  });
}

function candidates(
  sql: Queryable,
  { resources, requiredCapabilities, eligibleHostIds, hostLabels }: PlacementRequest,
  policy: PlacementPolicy,
  held: ReservationRow | undefined,
  lock: "skip locked" | "wait",
) {
  const own = (column: "vcpus" | "memoryMb" | "diskMb") =>
    held ? sql`case when id = ${held.hostId} then ${held[column]}::int8 else 0 end` : sql`0`;
  return sql<{ id: string; address: string }[]>`
    select id, address from hosts
    where not draining and unreachable_since is null
      and last_heartbeat_at > clock_timestamp() - ${HOST_READY_MS}::float8 * interval '1 millisecond'
      and capabilities @> ${requiredCapabilities}::text[]
      ${Object.keys(hostLabels).length > 0 ? sql`and labels @> ${sql.json(hostLabels)}` : sql``}
      ${eligibleHostIds.length > 0 ? sql`and id = any(${eligibleHostIds}::text[])` : sql``}
      and reserved_vcpus - ${own("vcpus")} + ${resources.vcpus}::int8 <= vcpus * ${policy.vcpuOvercommit}::float8
      and reserved_memory_mb - ${own("memoryMb")} + ${resources.memoryMb}::int8
        <= memory_mb * ${policy.memoryOvercommit}::float8
      -- Who has its disk there already may come back, however much snapshots store by now.
      and (${resources.diskMb}::int8 <= ${own("diskMb")}
        or not disk_full and reserved_disk_mb - ${own("diskMb")} + ${resources.diskMb}::int8
          <= (disk_mb - stored_disk_mb) * ${policy.diskOvercommit}::float8)
    -- The index hosts_most_free, forwards or backwards: the scan ends at the first that fits.
    order by ${
    policy.strategy === "pack"
      ? sql`memory_mb - reserved_memory_mb, id desc`
      : sql`memory_mb - reserved_memory_mb desc, id`
  }
    limit 1
    -- Not "for update": each journal entry that names the host looks at its row, and would wait for this.
    for no key update ${lock === "wait" ? sql`` : sql`skip locked`}`;
}

/** Writes a sandbox's reservation, in place of the one it had. Call it with the host locked. */
export async function putReservation(
  sql: Queryable,
  hostId: string,
  request: PlacementRequest,
  ttlMs: number,
): Promise<void> {
  const { sandboxId, resources } = request;
  await named("put_reservation", () =>
    sql`
    insert into reservations (sandbox_id, host_id, vcpus, memory_mb, disk_mb, expires_at)
    values (${sandboxId}, ${hostId}, ${resources.vcpus}, ${resources.memoryMb}, ${resources.diskMb},
      clock_timestamp() + ${ttlMs}::float8 * interval '1 millisecond')
    on conflict (sandbox_id) do update set host_id = excluded.host_id, vcpus = excluded.vcpus,
      memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, expires_at = excluded.expires_at`);
}

/**
 * Chooses a host and reserves room on it, as one statement, for a sandbox that holds no memory yet. Disk that it holds is not
 * taken into account: where that would be needed, {@linkcode lockBestHost} finds the host.
 *
 * It returns before the reservation is on disk, so that the host's row is not locked while a disk is waited for. Until it is
 * bound nothing rests on it, and what binds it is on disk with everything before it.
 * @returns undefined when no host has room that nobody else holds at this moment, or the sandbox holds memory already.
 */
export async function placeAtOnce(
  sql: Queryable,
  request: PlacementRequest,
  policy: PlacementPolicy,
): Promise<{ hostId: string; address: string } | undefined> {
  const { sandboxId, resources } = request;
  const rows = await named("place_at_once", () =>
    sql<{ hostId: string; address: string }[]>`
    with unflushed as materialized (select set_config('synchronous_commit', 'off', true)),
    host as (${candidates(sql, request, policy, undefined, "skip locked")}),
    put as (
      insert into reservations (sandbox_id, host_id, vcpus, memory_mb, disk_mb, expires_at)
      select ${sandboxId}, host.id, ${resources.vcpus}::int, ${resources.memoryMb}::int8, ${resources.diskMb}::int8,
        clock_timestamp() + ${policy.reservationTtlMs}::float8 * interval '1 millisecond'
      from host
      on conflict (sandbox_id) do update set host_id = excluded.host_id, vcpus = excluded.vcpus,
        memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, expires_at = excluded.expires_at
      where reservations.vcpus = 0 and reservations.memory_mb = 0
      returning host_id)
    select put.host_id, host.address from unflushed, host, put`);
  return rows[0];
}

/** Makes a reservation last. @returns false when it has expired and is gone, or is on another host. */
export async function bindReservation(sql: Queryable, sandboxId: string, hostId: string): Promise<boolean> {
  const rows = await named("bind_reservation", () =>
    sql`
    update reservations set expires_at = null where sandbox_id = ${sandboxId} and host_id = ${hostId}
    returning sandbox_id`);
  return rows.length > 0;
}

/**
 * Records what a sandbox really takes of a host, whether there was room or not: the database follows the host's truth
 * when a sandbox is found running.
 */
export async function recordUse(
  sql: Queryable,
  use: { sandboxId: string; hostId: string; vcpus: number; memoryMb: number; diskSizeMb: number },
): Promise<void> {
  await named("record_use", () =>
    sql`
    insert into reservations (sandbox_id, host_id, vcpus, memory_mb, disk_mb)
    values (${use.sandboxId}, ${use.hostId}, ${use.vcpus}, ${use.memoryMb}, ${use.diskSizeMb})
    on conflict (sandbox_id) do update set host_id = excluded.host_id, vcpus = excluded.vcpus,
      memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, expires_at = null`);
}

/**
 * Part of a statement that has `moved`, a sandbox that comes to rest in `to`: makes its reservation fit. A paused sandbox
 * holds nothing of its host but the disk, one that has ended nothing.
 */
export function settleReservationOf(sql: Queryable, to: SandboxState) {
  if (to === "deleted" || to === "failed") {
    return sql`delete from reservations where sandbox_id in (select id from moved)`;
  }
  const live = to !== "paused";
  return sql`
    insert into reservations as held (sandbox_id, host_id, vcpus, memory_mb, disk_mb)
    select id, host_id, ${live ? sql`vcpus` : sql`0`}, ${live ? sql`memory_mb` : sql`0`}, disk_size_mb from moved
    on conflict (sandbox_id) do update set host_id = excluded.host_id, vcpus = excluded.vcpus,
      memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, expires_at = null
    where (held.host_id, held.vcpus, held.memory_mb, held.disk_mb)
      <> (excluded.host_id, excluded.vcpus, excluded.memory_mb, excluded.disk_mb) or held.expires_at is not null`;
}

/** Gives a sandbox's capacity back, all of it. @returns false when it held none. */
export async function deleteReservation(sql: Queryable, sandboxId: string): Promise<boolean> {
  const rows = await named("delete_reservation", () =>
    sql`
    delete from reservations where sandbox_id = ${sandboxId} returning sandbox_id`);
  return rows.length > 0;
}

/** Gives back what is held for sandboxes that were never written. */
export async function deleteReservationsWithoutSandbox(sql: Queryable, sandboxIds: string[]): Promise<void> {
  await named("delete_reservations_without_sandbox", () =>
    sql`
    delete from reservations where sandbox_id = any(${sandboxIds}::text[])
      and not exists (select from sandboxes where id = sandbox_id)`);
}

/**
 * Ends reservations that were never bound. A paused sandbox keeps its disk on the host, so its reservation shrinks to
 * that instead of going away.
 * @returns the ids of the sandboxes concerned.
 */
export async function expireReservations(sql: Queryable, limit: number): Promise<string[]> {
  return await named("expire_reservations", async () => {
    const expired = await sql<{ sandboxId: string; paused: boolean }[]>`
      select sandbox_id, exists (
        select from sandboxes where id = sandbox_id and state = 'paused' and host_id = reservations.host_id) as paused
      from reservations where expires_at < clock_timestamp()
      order by sandbox_id limit ${limit} for update skip locked`;
    const ids = (paused: boolean) => expired.filter((row) => row.paused === paused).map((row) => row.sandboxId);
    await sql`delete from reservations where sandbox_id = any(${ids(false)}::text[])`;
    await sql`update reservations set vcpus = 0, memory_mb = 0, expires_at = null
      where sandbox_id = any(${ids(true)}::text[])`;
    return expired.map((row) => row.sandboxId);
  });
}
