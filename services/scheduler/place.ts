import {
  type Database,
  deleteReservation,
  expireReservations,
  getHost,
  type HostRow,
  hostState,
  listHosts,
  lockBestHost,
  lockReservation,
  type PlacementPolicy,
  type PlacementRequest,
  putReservation,
  type Queryable,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { requireId } from "@torpor/ids";
import type { PlaceRequest, ReleaseRequest } from "@torpor/proto/scheduler";
import { withSpan } from "@torpor/telemetry";
import { requireCapacity } from "./hosts.ts";

/** A chosen host. */
export interface Placement {
  hostId: string;
  address: string;
}

/** Reservations of creates that were never finished are few; this many are cleared when a placement finds no room. */
const EXPIRE_LIMIT = 1_000;

/** How many hosts a refusal explains. */
const MAX_REASONS = 5;

/**
 * Chooses the ready host with the most free memory and reserves room on it, in one transaction. Asked again for the
 * same sandbox it gives the same answer while that host can be used.
 * @throws `no_capacity` with the reason per host; `invalid_argument`.
 */
export async function place(database: Database, policy: PlacementPolicy, message: PlaceRequest): Promise<Placement> {
  const request = readRequest(message);
  return await withSpan("scheduler.place", { "torpor.sandbox_id": request.sandboxId }, async (span) => {
    const placement = await database.transaction("place", (sql) => placeIn(sql, policy, request));
    if (!placement) throw await noCapacity(database, policy, request);
    span.setAttribute("torpor.host_id", placement.hostId);
    return placement;
  });
}

async function noCapacity(
  database: Database,
  policy: PlacementPolicy,
  request: PlacementRequest,
): Promise<TorporError> {
  const reasons = (await listHosts(database.sql)).map((host) => `${host.name}: ${refusal(host, policy, request)}`);
  const more = reasons.length > MAX_REASONS ? `; and ${reasons.length - MAX_REASONS} more` : "";
  const why = reasons.length === 0 ? "no host is registered" : reasons.slice(0, MAX_REASONS).join("; ") + more;
  return new TorporError("no_capacity", `no host has room: ${why}`, {
    hint: "delete sandboxes, wait, or add a host",
    retryAfterSec: 5,
  });
}

async function placeIn(
  sql: Queryable,
  policy: PlacementPolicy,
  request: PlacementRequest,
): Promise<Placement | undefined> {
  const held = await lockReservation(sql, request.sandboxId);
  const kept = held && await keepPlacement(sql, request, held);
  if (kept) {
    if (held.expiresAt !== null) await putReservation(sql, kept.hostId, request, policy.reservationTtlMs);
    return kept;
  }
  let host = await lockBestHost(sql, request, policy, held);
  if (!host && (await expireReservations(sql, EXPIRE_LIMIT)).length > 0) {
    host = await lockBestHost(sql, request, policy, await lockReservation(sql, request.sandboxId));
  }
  if (!host) return undefined;
  await putReservation(sql, host.id, request, policy.reservationTtlMs);
  return { hostId: host.id, address: host.address };
}

/** What the sandbox holds already, when it is what is asked for. */
async function keepPlacement(
  sql: Queryable,
  { resources, eligibleHostIds }: PlacementRequest,
  held: NonNullable<Awaited<ReturnType<typeof lockReservation>>>,
): Promise<Placement | undefined> {
  const same = held.vcpus === resources.vcpus && held.memoryMb === resources.memoryMb &&
    held.diskMb === resources.diskMb;
  if (!same || (eligibleHostIds.length > 0 && !eligibleHostIds.includes(held.hostId))) return undefined;
  const host = await getHost(sql, held.hostId);
  if (!host || hostState(host) === "unreachable") return undefined;
  return { hostId: host.id, address: host.address };
}

function refusal(host: HostRow, policy: PlacementPolicy, request: PlacementRequest): string {
  const { resources } = request;
  if (request.eligibleHostIds.length > 0 && !request.eligibleHostIds.includes(host.id)) {
    return "does not hold the snapshot";
  }
  const state = hostState(host);
  if (state === "unreachable") return `not heard for ${Math.round(host.silentMs / 1000)} s`;
  if (state === "draining") return "is draining";
  const missing = request.requiredCapabilities.filter((name) => !host.capabilities.includes(name));
  if (missing.length > 0) return `lacks ${missing.join(", ")}`;
  const free = (capacity: bigint | number, factor: number, reserved: bigint) =>
    Math.max(0, Math.floor(Number(capacity) * factor - Number(reserved)));
  return `${free(host.vcpus, policy.vcpuOvercommit, host.reservedVcpus)} of ${resources.vcpus} vCPUs, ` +
    `${free(host.memoryMb, policy.memoryOvercommit, host.reservedMemoryMb)} of ${resources.memoryMb} MB memory, ` +
    `${free(host.diskMb, policy.diskOvercommit, host.reservedDiskMb)} of ${resources.diskMb} MB disk free`;
}

function readRequest(message: PlaceRequest): PlacementRequest {
  return {
    sandboxId: requireId(message.sandboxId, "sandbox_id"),
    resources: requireCapacity(message.resources, "resources"),
    requiredCapabilities: message.requiredCapabilities,
    eligibleHostIds: message.eligibleHostIds.map((id) => requireId(id, "eligible_host_ids")),
  };
}

/** Gives a sandbox's reservation back; it need not have one. @throws `invalid_argument`. */
export async function release(database: Database, { sandboxId }: ReleaseRequest): Promise<void> {
  await deleteReservation(database.sql, requireId(sandboxId, "sandbox_id"));
}
