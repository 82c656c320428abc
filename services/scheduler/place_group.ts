import {
  type Database,
  deleteReservation,
  expireReservations,
  lockBestHost,
  type PlacementPolicy,
  putReservation,
  type Queryable,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { requireId } from "@torpor/ids";
import type { PlaceGroupRequest } from "@torpor/proto/scheduler";
import { timed, withSpan } from "@torpor/telemetry";
import { requireCapacity } from "./hosts.ts";
import { EXPIRE_LIMIT, type Placement } from "./place.ts";
import { type Demand, refuse } from "./refusal.ts";

/** As many children as a fork can have. */
const MAX_SANDBOXES = 32;

const MAX_HOLD_MS = 3_600_000;

/** Several sandboxes that must be on one host. */
interface Group extends Demand {
  sandboxIds: string[];
  holdMs: number;
}

/**
 * Reserves the same room for each of several sandboxes on one host, in one transaction: all or none. Reservations that
 * they have already are replaced.
 * @throws `no_capacity`, `host_unreachable` with the reason per host; `invalid_argument`.
 */
export async function placeGroup(
  database: Database,
  policy: PlacementPolicy,
  message: PlaceGroupRequest,
): Promise<Placement> {
  const group = readRequest(message);
  const work = () =>
    withSpan("scheduler.place_group", { "torpor.sandboxes": group.sandboxIds.length }, async (span) => {
      const placement = await database.transaction("place_group", (sql) => placeIn(sql, policy, group));
      if (!placement) throw await refuse(database, policy, sumOf(group));
      span.setAttribute("torpor.host_id", placement.hostId);
      return placement;
    });
  return await timed("torpor.placement.duration", { "torpor.placement": "group" }, work);
}

async function placeIn(sql: Queryable, policy: PlacementPolicy, group: Group): Promise<Placement | undefined> {
  for (const id of group.sandboxIds) await deleteReservation(sql, id);
  const request = { ...sumOf(group), sandboxId: "" };
  let host = await lockBestHost(sql, request, policy, undefined);
  if (!host && (await expireReservations(sql, EXPIRE_LIMIT)).length > 0) {
    host = await lockBestHost(sql, request, policy, undefined);
  }
  if (!host) return undefined;
  const ttlMs = Math.max(policy.reservationTtlMs, group.holdMs);
  for (const sandboxId of group.sandboxIds) await putReservation(sql, host.id, { ...group, sandboxId }, ttlMs);
  return { hostId: host.id, address: host.address };
}

function sumOf({ sandboxIds, resources, requiredCapabilities, eligibleHostIds }: Group): Demand {
  const count = sandboxIds.length;
  const sum = {
    vcpus: resources.vcpus * count,
    memoryMb: resources.memoryMb * BigInt(count),
    diskMb: resources.diskMb * BigInt(count),
  };
  return { resources: sum, requiredCapabilities, eligibleHostIds, hostLabels: {} };
}

function readRequest(message: PlaceGroupRequest): Group {
  const sandboxIds = message.sandboxIds.map((id) => requireId(id, "sandbox_ids"));
  if (sandboxIds.length < 1 || sandboxIds.length > MAX_SANDBOXES || new Set(sandboxIds).size < sandboxIds.length) {
    throw new TorporError("invalid_argument", `sandbox_ids must be 1 to ${MAX_SANDBOXES} different ids`, {
      field: "sandbox_ids",
    });
  }
  if (message.holdMs < 0 || message.holdMs > MAX_HOLD_MS) {
    throw new TorporError("invalid_argument", `hold_ms must be from 0 to ${MAX_HOLD_MS}`, { field: "hold_ms" });
  }
  return {
    sandboxIds,
    resources: requireCapacity(message.resources, "resources"),
    requiredCapabilities: message.requiredCapabilities,
    eligibleHostIds: message.eligibleHostIds.map((id) => requireId(id, "eligible_host_ids")),
    hostLabels: {},
    holdMs: message.holdMs,
  };
}
