import { type Database, getInventoryRows, type HostRow, type InventoryRow, touchSandboxes } from "@torpor/db";
import type { HostClient } from "@torpor/lifecycle";
import type { SandboxInfo } from "@torpor/proto/hostagent";
import { ask, type Comparison } from "./inventory.ts";

/** What a host says is older by the time that its answer took: without this each pass would write all rows anew. */
const EXACT_TO_MS = 1_000;

/** Execs and pings go through the host, so it knows best when a sandbox was last used. */
export async function refreshActivity(
  database: Database,
  rows: ReadonlyMap<string, InventoryRow>,
  infos: ReadonlyMap<string, SandboxInfo>,
): Promise<void> {
  const ages = new Map<string, number>();
  for (const [id, { unusedForMs }] of infos) {
    if (rows.get(id)?.state === "running" && unusedForMs !== undefined) ages.set(id, Number(unusedForMs));
  }
  await touchSandboxes(database.sql, ages, EXACT_TO_MS);
}

/** Tells the host which of its automatic pauses the database has; the others stay listed until it does. */
export async function acknowledge(
  database: Database,
  client: HostClient,
  host: HostRow,
  { infos, autoPausedIds }: Comparison,
): Promise<void> {
  if (autoPausedIds.length === 0) return;
  const recorded = new Map((await getInventoryRows(database.sql, autoPausedIds)).map((row) => [row.id, row]));
  const acknowledged = autoPausedIds.filter((id) => {
    const row = recorded.get(id);
    return !row || row.state === "deleted" || row.snapshotId === infos.get(id)?.snapshot?.snapshotId;
  });
  if (acknowledged.length === 0) return;
  // A page of one: without any question about changes, all sandboxes would be listed.
  await ask(client, host, { acknowledgedAutoPausedIds: acknowledged, pageSize: 1 });
}
