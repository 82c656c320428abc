import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Database, heartbeatHost, type HostCapacity, hostState, listHosts, upsertHost } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { requireId } from "@torpor/ids";
import type { Capacity, HeartbeatRequest, HostSchema, RegisterHostRequest } from "@torpor/proto/scheduler";
import { parseAddress } from "@torpor/rpc";
import { log } from "@torpor/telemetry";

/**
 * Adds a host, or renews it after a restart.
 * @throws `invalid_argument`.
 */
export async function registerHost(database: Database, request: RegisterHostRequest): Promise<void> {
  const id = requireId(request.hostId, "host_id");
  requireAddress(request.address);
  await upsertHost(database.sql, {
    id,
    name: request.name || id,
    address: request.address,
    ...requireCapacity(request.capacity, "capacity"),
    capabilities: request.capabilities,
    labels: request.labels,
    agentVersion: request.agentVersion,
  });
  log("info", "host_registered", { host_id: id, name: request.name, address: request.address });
}

/** @throws `host_not_found` when the host has to register first; `invalid_argument`. */
export async function heartbeat(database: Database, request: HeartbeatRequest): Promise<void> {
  const id = requireId(request.hostId, "host_id");
  const known = await heartbeatHost(database.sql, id, {
    capacity: request.capacity && requireCapacity(request.capacity, "capacity"),
    runningSandboxes: request.runningSandboxes,
    pausedSandboxes: request.pausedSandboxes,
  });
  if (!known) throw new TorporError("host_not_found", `host ${id} is not registered`, { hint: "call RegisterHost" });
}

/** All hosts with their capacity and what is reserved. */
export async function listAllHosts(database: Database): Promise<MessageInitShape<typeof HostSchema>[]> {
  return (await listHosts(database.sql)).map((host) => ({
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
  }));
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

function requireAddress(address: string): void {
  try {
    parseAddress(address);
  } catch (cause) {
    throw new TorporError("invalid_argument", `address must be unix:/path or http://host:port`, {
      field: "address",
      cause,
    });
  }
}
