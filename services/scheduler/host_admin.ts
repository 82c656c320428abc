import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  countActiveSandboxes,
  type Database,
  getHost,
  hostContents,
  lockHost,
  type Queryable,
  setHostPlacement,
  setHostRemoved,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";
import type {
  GetHostRequest,
  GetHostResponseSchema,
  HostSchema,
  RemoveHostRequest,
  RemoveHostResponseSchema,
  SetHostPlacementRequest,
} from "@torpor/proto/scheduler";
import { log } from "@torpor/telemetry";
import { hostMessage } from "./hosts.ts";

const PLACEMENTS = ["open", "cordoned", "draining"] as const;

/** One host and what it holds. @throws TorporError `host_not_found`. */
export async function describeHost(
  database: Database,
  { host }: GetHostRequest,
): Promise<MessageInitShape<typeof GetHostResponseSchema>> {
  return await database.transaction("describe_host", async (sql) => {
    const { id } = await requireHost(sql, host);
    const { sandboxes, snapshots } = await hostContents(sql, id);
    const activeSandboxes = await countActiveSandboxes(sql, id);
    return { host: hostMessage((await getHost(sql, id))!), sandboxes, snapshots, activeSandboxes };
  });
}

/**
 * Opens a host to new sandboxes, closes it, or has it drained: the reconciler pauses what runs there.
 * @throws TorporError `host_not_found`, `invalid_argument`.
 */
export async function changePlacement(
  database: Database,
  request: SetHostPlacementRequest,
): Promise<{ host: MessageInitShape<typeof HostSchema> }> {
  const placement = PLACEMENTS.find((one) => one === request.placement);
  if (!placement) {
    throw new TorporError("invalid_argument", `placement must be one of ${PLACEMENTS.join(", ")}`, {
      field: "placement",
    });
  }
  return await database.transaction("set_host_placement", async (sql) => {
    const { id, name } = await requireHost(sql, request.host);
    await setHostPlacement(sql, id, placement);
    log("info", "host_placement_set", { host_id: id, name, placement });
    return { host: hostMessage((await getHost(sql, id))!) };
  });
}

/**
 * Takes a host out, until it is added again by a new token. With `force` what is there is lost until then.
 * @throws TorporError `host_not_found`; `conflict` with the counts when sandboxes or snapshots are there.
 */
export async function removeHost(
  database: Database,
  { host, force }: RemoveHostRequest,
): Promise<MessageInitShape<typeof RemoveHostResponseSchema>> {
  return await database.transaction("remove_host", async (sql) => {
    if (await isRemoved(sql, host)) return { hostId: host };
    const { id, name } = await requireHost(sql, host);
    const contents = await hostContents(sql, id);
    if (contents.sandboxes + contents.snapshots > 0 && !force) {
      const held = `${contents.sandboxes} sandboxes and ${contents.snapshots} snapshots`;
      throw new TorporError("conflict", `host ${name} holds ${held}`, {
        hint: "delete them first; or remove it with force: then they are lost, until it is added again with its data",
      });
    }
    await setHostRemoved(sql, id);
    log("warn", "host_removed", { host_id: id, name, ...contents });
    return { hostId: id, ...contents };
  });
}

async function isRemoved(sql: Queryable, id: string): Promise<boolean> {
  const host = isId(id) ? await getHost(sql, id) : undefined;
  return host !== undefined && host.removedAt !== null;
}

async function requireHost(sql: Queryable, host: string): Promise<{ id: string; name: string }> {
  const found = await lockHost(sql, host);
  if (found) return found;
  throw new TorporError("host_not_found", `no host ${host.slice(0, 100)}`, { field: "host" });
}
