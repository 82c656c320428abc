import {
  type Database,
  deleteReservation,
  expireReservations,
  getHost,
  hostState,
  lockBestHost,
  lockReservation,
  placeAtOnce,
  type PlacementPolicy,
  type PlacementRequest,
  putReservation,
  type Queryable,
} from "@torpor/db";
import { requireId } from "@torpor/ids";
import type { PlaceRequest, ReleaseRequest } from "@torpor/proto/scheduler";
import { timed, withSpan } from "@torpor/telemetry";
import { requireCapacity } from "./hosts.ts";
import { refuse } from "./refusal.ts";

/** A chosen host. */
export interface Placement {
  hostId: string;
  address: string;
}

/** Reservations of creates that were never finished are few; this many are cleared when a placement finds no room. */
export const EXPIRE_LIMIT = 1_000;

/**
 * Chooses the ready host with the most free memory and reserves room on it, in one transaction. Asked again for the
 * same sandbox it gives the same answer while that host can be used.
 * @throws `no_capacity` with the reason per host; `host_unreachable` when the host that it must be on is away;
 * `invalid_argument`.
 */
export async function place(database: Database, policy: PlacementPolicy, message: PlaceRequest): Promise<Placement> {
  const request = readRequest(message);
  const work = () =>
    withSpan("scheduler.place", { "torpor.sandbox_id": request.sandboxId }, async (span) => {
      const placement = await placeAtOnce(database.sql, request, policy) ??
        await database.transaction("place", (sql) => placeIn(sql, policy, request));
      if (!placement) throw await refuse(database, policy, request);
      span.setAttribute("torpor.host_id", placement.hostId);
      return placement;
    });
  return await timed("torpor.placement.duration", { "torpor.placement": "single" }, work);
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

function readRequest(message: PlaceRequest): PlacementRequest {
  return {
    sandboxId: requireId(message.sandboxId, "sandbox_id"),
    resources: requireCapacity(message.resources, "resources"),
    requiredCapabilities: message.requiredCapabilities,
    eligibleHostIds: message.eligibleHostIds.map((id) => requireId(id, "eligible_host_ids")),
    hostLabels: message.hostLabels,
  };
}

/** Gives a sandbox's reservation back; it need not have one. @throws `invalid_argument`. */
export async function release(database: Database, { sandboxId }: ReleaseRequest): Promise<void> {
  await deleteReservation(database.sql, requireId(sandboxId, "sandbox_id"));
}
