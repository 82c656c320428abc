import {
  type Database,
  type HostCapacity,
  type HostRow,
  hostState,
  listHosts,
  type PlacementPolicy,
  type PlacementRequest,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";

/** What is to be placed somewhere: one sandbox, or several that must be on one host, as their sum. */
export type Demand = Omit<PlacementRequest, "sandboxId">;

/** How many hosts a refusal explains. */
const MAX_REASONS = 5;

const HINT = "delete sandboxes, wait, or add a host";

/**
 * The error for a demand that no host can take, with the reason per host: `no_capacity`, or `host_unreachable` when the
 * only hosts that could take it are not heard.
 */
export async function refuse(database: Database, policy: PlacementPolicy, demand: Demand): Promise<TorporError> {
  const { eligibleHostIds } = demand;
  const hosts = await listHosts(database.sql);
  const reasonOf = (host: HostRow) => `${host.name}: ${refusal(host, policy, demand)}`;
  if (eligibleHostIds.length === 0) {
    const why = hosts.length === 0 ? "no host is registered" : join(hosts.map(reasonOf));
    return new TorporError("no_capacity", `no host has room: ${why}`, { hint: HINT, retryAfterSec: 5 });
  }
  const eligible = hosts.filter(({ id }) => eligibleHostIds.includes(id));
  const why = eligible.length === 0 ? "it is not registered" : join(eligible.map(reasonOf));
  if (eligible.every((host) => hostState(host) === "unreachable")) {
    return new TorporError("host_unreachable", `the host that holds the snapshot is away: ${why}`, {
      hint: "it can be used again when its host is back",
      retryAfterSec: 5,
    });
  }
  return new TorporError("no_capacity", `the host that holds the snapshot has no room: ${why}`, {
    hint: HINT,
    retryAfterSec: 5,
  });
}

function join(reasons: string[]): string {
  const more = reasons.length > MAX_REASONS ? `; and ${reasons.length - MAX_REASONS} more` : "";
  return reasons.slice(0, MAX_REASONS).join("; ") + more;
}

function refusal(host: HostRow, policy: PlacementPolicy, demand: Demand): string {
  const { resources, requiredCapabilities, hostLabels } = demand;
  const state = hostState(host);
  if (state === "unreachable") return `not heard for ${Math.round(host.silentMs / 1000)} s`;
  if (state === "draining") return "is being drained";
  if (state !== "ready") return `is ${state}`;
  const missing = requiredCapabilities.filter((name) => !host.capabilities.includes(name));
  if (missing.length > 0) return `lacks ${missing.join(", ")}`;
  const other = Object.entries(hostLabels).filter(([name, value]) => host.labels[name] !== value);
  if (other.length > 0) return `has not the label ${other.map(([name, value]) => `${name}=${value}`).join(", ")}`;
  return host.diskFull ? "its disk is full" : room(host, policy, resources);
}

function room(host: HostRow, policy: PlacementPolicy, resources: HostCapacity): string {
  const free = (capacity: bigint | number, factor: number, reserved: bigint) =>
    Math.max(0, Math.floor(Number(capacity) * factor - Number(reserved)));
  const diskMb = host.diskMb - host.storedDiskMb;
  return `${free(host.vcpus, policy.vcpuOvercommit, host.reservedVcpus)} of ${resources.vcpus} vCPUs, ` +
    `${free(host.memoryMb, policy.memoryOvercommit, host.reservedMemoryMb)} of ${resources.memoryMb} MB memory, ` +
    `${free(diskMb, policy.diskOvercommit, host.reservedDiskMb)} of ${resources.diskMb} MB disk free`;
}
