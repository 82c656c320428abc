import { type Database, getInventoryRows, type HostRow, type InventoryRow, touchSandboxes } from "@torpor/db";
import type { HostClient } from "@torpor/lifecycle";
import type { SandboxInfo } from "@torpor/proto/hostagent";
import { ask, type Comparison } from "./inventory.ts";

/** Execs and pings go through the host, so it knows best when a sandbox was last used. */
export async function refreshActivity(
  database: Database,
  rows: ReadonlyMap<string, InventoryRow>,
  infos: ReadonlyMap<string, SandboxInfo>,
): Promise<void> {
  const newer = new Map<string, Date>();
  for (const [id, info] of infos) {
    const at = new Date(Number(info.lastActiveAtUnix) * 1000);
    const row = rows.get(id);
    if (row?.state === "running" && at > row.lastActiveAt) newer.set(id, at);
  }
  await touchSandboxes(database.sql, newer);
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
