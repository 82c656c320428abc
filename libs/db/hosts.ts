import { named, type Queryable } from "./database.ts";

/** A host is ready while its last heartbeat is younger than this. */
export const HOST_READY_MS = 15_000;

/** What a host offers or what is taken of it. */
export interface HostCapacity {
  vcpus: number;
  memoryMb: bigint;
  diskMb: bigint;
}

/** A machine with a host agent. */
export interface HostRow extends HostCapacity {
  id: string;
  name: string;
  /** `unix:/path`, `http://host:port` or `https://host:port#peer`. */
  address: string;
  reservedVcpus: bigint;
  reservedMemoryMb: bigint;
  reservedDiskMb: bigint;
  /** What snapshots that belong to no sandbox store there, MiB: not only reserved, so not to be over-committed. */
  storedDiskMb: bigint;
  capabilities: string[];
  labels: Record<string, string>;
  agentVersion: string;
  /** Less than its reserve is free on its disk: it takes no new sandboxes. */
  diskFull: boolean;
  /** Takes no new sandboxes: it is cordoned, being drained, or removed. */
  draining: boolean;
  /** Since when what runs there is being paused; null: it is not. */
  drainStartedAt: Date | null;
  /** Since when it is out for good; null: it is not. */
  removedAt: Date | null;
  /** Since when the reconciler counts it as gone; null from its next heartbeat on. */
  unreachableSince: Date | null;
  runningSandboxes: number;
  pausedSandboxes: number;
  registeredAt: Date;
  lastHeartbeatAt: Date;
  /** Age of the last heartbeat by the database's clock. */
  silentMs: number;
}

/** How a host stands, for people and for placement. */
export type HostState = "ready" | "cordoned" | "draining" | "unreachable" | "removed";

/** The state of a host by its row. */
export function hostState(host: HostRow): HostState {
  if (host.removedAt !== null) return "removed";
  if (host.unreachableSince !== null || host.silentMs > HOST_READY_MS) return "unreachable";
  if (host.drainStartedAt !== null) return "draining";
  return host.draining ? "cordoned" : "ready";
}

const SILENT = "extract(epoch from clock_timestamp() - last_heartbeat_at)::float8 * 1000 as silent_ms";

/** Adds a host, or renews it after a restart. @returns false when it was removed, which it then stays. */
export async function upsertHost(
  sql: Queryable,
  host: HostCapacity & {
    id: string;
    name: string;
    address: string;
    capabilities: string[];
    labels: Record<string, string>;
    agentVersion: string;
    diskFull?: boolean;
  },
): Promise<boolean> {
  const rows = await named("upsert_host", () =>
    sql`
    insert into hosts (id, name, address, vcpus, memory_mb, disk_mb, capabilities, labels, agent_version,
      disk_full)
    values (${host.id}, ${host.name}, ${host.address}, ${host.vcpus}, ${host.memoryMb}, ${host.diskMb},
      ${host.capabilities}, ${sql.json(host.labels)}, ${host.agentVersion}, ${host.diskFull ?? false})
    on conflict (id) do update set name = excluded.name, address = excluded.address, vcpus = excluded.vcpus,
      memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, capabilities = excluded.capabilities,
      labels = excluded.labels, agent_version = excluded.agent_version, disk_full = excluded.disk_full, registered_at = now(),
      last_heartbeat_at = clock_timestamp(), unreachable_since = null
    where hosts.removed_at is null returning id`);
  return rows.length > 0;
}

/** Notes that a host lives. @returns false when it was never registered, or was removed. */
export async function heartbeatHost(
  sql: Queryable,
  id: string,
  seen: { capacity?: HostCapacity; runningSandboxes: number; pausedSandboxes: number; diskFull?: boolean },
): Promise<boolean> {
  const { capacity } = seen;
  const rows = await named("heartbeat_host", () =>
    sql`
    update hosts set last_heartbeat_at = clock_timestamp(), unreachable_since = null, running_sandboxes = ${seen.runningSandboxes},
      paused_sandboxes = ${seen.pausedSandboxes}, disk_full = ${seen.diskFull ?? false},
      vcpus = coalesce(${capacity?.vcpus ?? null}::int, vcpus),
      memory_mb = coalesce(${capacity?.memoryMb ?? null}::int8, memory_mb),
      disk_mb = coalesce(${capacity?.diskMb ?? null}::int8, disk_mb)
    where id = ${id} and removed_at is null returning id`);
  return rows.length > 0;
}

/** One host, removed ones too. */
export async function getHost(sql: Queryable, id: string): Promise<HostRow | undefined> {
  const rows = await named("get_host", () =>
    sql<HostRow[]>`
    select *, ${sql.unsafe(SILENT)} from hosts where id = ${id}`);
  return rows[0];
}

/** All hosts but removed ones, by name. */
export async function listHosts(sql: Queryable): Promise<HostRow[]> {
  return await named("list_hosts", async () => [
    ...await sql<HostRow[]>`
    select *, ${sql.unsafe(SILENT)} from hosts where removed_at is null order by name, id`,
  ]);
}

/** Marks a host as gone, or as heard again. @returns false when it was so already. */
export async function setHostUnreachable(sql: Queryable, id: string, unreachable: boolean): Promise<boolean> {
  const rows = await named("set_host_unreachable", () =>
    sql`
    update hosts set unreachable_since = case when ${unreachable} then clock_timestamp() end
    where id = ${id} and (unreachable_since is not null) <> ${unreachable} returning id`);
  return rows.length > 0;
}
