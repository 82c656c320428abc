import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Database,
  getHost,
  heartbeatHost,
  type HostCapacity,
  type HostRow,
  hostState,
  hostTokenName,
  listHosts,
  upsertHost,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { requireId } from "@torpor/ids";
import type { Capacity, HeartbeatRequest, HostSchema, RegisterHostRequest } from "@torpor/proto/scheduler";
import { formatAddress, hostPeer, parseAddress } from "@torpor/rpc";
import { log } from "@torpor/telemetry";
import { removedError } from "./enrolment.ts";

/**
 * Adds a host, or renews it after a restart. What the operator has called it counts more than what it calls itself.
 * @param overTls the host has shown its certificate: then it is reached over TLS, too.
 * @throws `invalid_argument`; `permission_denied` when it was removed.
 */
export async function registerHost(
  database: Database,
  request: RegisterHostRequest,
  overTls: boolean,
): Promise<void> {
  const id = requireId(request.hostId, "host_id");
  const address = requireAddress(request.address, id, overTls);
  const name = await hostTokenName(database.sql, id) ?? (request.name || id);
  const known = await upsertHost(database.sql, {
    id,
    name,
    address,
    ...requireCapacity(request.capacity, "capacity"),
    capabilities: request.capabilities,
    labels: request.labels,
    agentVersion: request.agentVersion,
    diskFull: request.diskFull,
  });
  if (!known) throw removedError(id);
  log("info", "host_registered", { host_id: id, name, address });
}

/** @throws `host_not_found` when the host has to register first; `permission_denied` when it was removed; `invalid_argument`. */
export async function heartbeat(database: Database, request: HeartbeatRequest): Promise<void> {
  const id = requireId(request.hostId, "host_id");
  const known = await heartbeatHost(database.sql, id, {
    capacity: request.capacity && requireCapacity(request.capacity, "capacity"),
    runningSandboxes: request.runningSandboxes,
    pausedSandboxes: request.pausedSandboxes,
    diskFull: request.diskFull,
  });
  if (known) return;
  if (await getHost(database.sql, id)) throw removedError(id);
  throw new TorporError("host_not_found", `host ${id} is not registered`, { hint: "call RegisterHost" });
}

/** All hosts with their capacity and what is reserved. */
export async function listAllHosts(database: Database): Promise<MessageInitShape<typeof HostSchema>[]> {
  return (await listHosts(database.sql)).map(hostMessage);
}

/** A host as the contract shows it. */
export function hostMessage(host: HostRow): MessageInitShape<typeof HostSchema> {
  return {
    hostId: host.id,
    name: host.name,
    address: host.address,
    state: hostState(host),
    capacity: { vcpus: host.vcpus, memoryMb: host.memoryMb, diskMb: host.diskMb },
    reserved: {
      vcpus: Number(host.reservedVcpus),
      memoryMb: host.reservedMemoryMb,
      diskMb: host.reservedDiskMb,
    },
    capabilities: host.capabilities,
    lastHeartbeatUnixMs: BigInt(host.lastHeartbeatAt.getTime()),
    runningSandboxes: host.runningSandboxes,
    pausedSandboxes: host.pausedSandboxes,
    labels: host.labels,
    diskFull: host.diskFull,
  };
}

/** Capacity or a demand for it: more than nothing of vCPUs and memory. @throws `invalid_argument`. */
export function requireCapacity(capacity: Capacity | undefined, field: string): HostCapacity {
  if (capacity && capacity.vcpus > 0 && capacity.memoryMb > 0n && capacity.diskMb >= 0n) {
    return { vcpus: capacity.vcpus, memoryMb: capacity.memoryMb, diskMb: capacity.diskMb };
  }
  throw new TorporError("invalid_argument", `${field} must have vcpus and memory_mb above 0 and disk_mb from 0`, {
    field,
  });
}

/**
 * The address under which a host is called, with the name that must answer there. A host that has come over TLS must not
 * name anything that is called with the internal token.
 */
function requireAddress(text: string, hostId: string, overTls: boolean): string {
  const allowed = overTls ? "https://host:port" : "unix:/path, http://host:port or https://host:port";
  const refused = (cause?: unknown) =>
    new TorporError("invalid_argument", `address must be ${allowed}`, { field: "address", cause });
  try {
    const address = parseAddress(text);
    if (address.transport === "tls") return formatAddress({ ...address, peer: hostPeer(hostId) });
    if (!overTls) return text;
  } catch (cause) {
    throw refused(cause);
  }
  throw refused();
}
