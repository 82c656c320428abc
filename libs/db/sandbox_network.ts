import type { NetworkPolicy } from "@torpor/network";
import type { Queryable } from "./database.ts";
import { type SandboxRow, sandboxRows } from "./sandboxes.ts";

/**
 * Writes what a sandbox may reach, as its next revision. No change of its state: the version stays.
 * @returns undefined for a sandbox that there is not.
 */
export async function setSandboxNetwork(
  sql: Queryable,
  id: string,
  { allowInternetAccess, allowOut, denyOut }: NetworkPolicy,
): Promise<SandboxRow | undefined> {
  const rows = await sandboxRows("set_sandbox_network", () =>
    sql`
    update sandboxes set network = ${sql.json({ allowInternetAccess, allowOut, denyOut })},
      network_revision = network_revision + 1, network_changed_at = clock_timestamp()
    where id = ${id}
    returning *`);
  return rows[0];
}
