import { named, type Queryable } from "./database.ts";
import type { SandboxRow } from "./sandboxes.ts";

/** As much of a sandbox as is needed to compare it with what its host says. */
export type InventoryRow =
  & Pick<
    SandboxRow,
    | "id"
    | "state"
    | "version"
    | "hostId"
    | "operationId"
    | "accelerator"
    | "reason"
    | "stateChangedAt"
    | "networkRevision"
  >
  & { snapshotId: string | null; snapshotGeneration: number | null; networkChangedAt: Date | null };

const COLUMNS = `id, state, version, host_id, operation_id, accelerator, reason, state_changed_at,
  snapshot_id, snapshot_generation, network_revision, network_changed_at`;

/** The ids of a host's sandboxes, deleted ones excluded, that have changed their state or their network since then. */
export async function listChangedSandboxIds(sql: Queryable, hostId: string, since: Date): Promise<string[]> {
  const rows = await named("list_changed_sandboxes", () =>
    sql<{ id: string }[]>`
    select id from sandboxes where host_id = ${hostId} and state <> 'deleted' and state_changed_at >= ${since}
    union
    select id from sandboxes where host_id = ${hostId} and state <> 'deleted' and network_changed_at >= ${since}`);
  return rows.map(({ id }) => id);
}

/** These sandboxes, whatever their host and state. */
export async function getInventoryRows(sql: Queryable, ids: readonly string[]): Promise<InventoryRow[]> {
  if (ids.length === 0) return [];
  return await named("get_inventory", async () => [
    ...await sql<InventoryRow[]>`select ${sql.unsafe(COLUMNS)} from sandboxes where id = any(${[...ids]}::text[])`,
  ]);
}

/** Ids after `after` up to `end`, by bytes; an empty `end` is none. */
export interface IdRange {
  after: string;
  end: string;
}

/** What a host should have of a range of ids: all its sandboxes but deleted ones. */
export async function listInventoryRows(sql: Queryable, hostId: string, range: IdRange): Promise<InventoryRow[]> {
  return await named("list_inventory", async () => [
    ...await sql<InventoryRow[]>`
    select ${sql.unsafe(COLUMNS)} from sandboxes
    where host_id = ${hostId} and state <> 'deleted' and id collate "C" > ${range.after}
      ${range.end === "" ? sql`` : sql`and id collate "C" <= ${range.end}`}`,
  ]);
}

/** What ends when a host is lost: all that was live or becoming so there. */
export async function listLiveSandboxes(sql: Queryable, hostId: string): Promise<InventoryRow[]> {
  return await named("list_live_sandboxes", async () => [
    ...await sql<InventoryRow[]>`
    select ${sql.unsafe(COLUMNS)} from sandboxes
    where host_id = ${hostId} and state in ('starting', 'running', 'pausing', 'snapshotting')`,
  ]);
}
