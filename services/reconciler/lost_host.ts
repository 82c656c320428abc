import { getOperation, type HostRow, type InventoryRow, listLiveSandboxes, setHostUnreachable } from "@torpor/db";
import { finishOperation, isLive, markLost } from "@torpor/lifecycle";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/**
 * A host that neither answers nor was heard for longer than the grace period: it is unreachable, and what ran there is
 * lost until it is back. Paused sandboxes stay paused: their snapshots wait on its disk.
 */
export async function loseHost(context: PassContext, host: HostRow): Promise<Repair[]> {
  // While nobody led, the whole control plane may have been down, and no host could be heard.
  if (Math.min(host.silentMs, context.leadingMs) <= context.hostGraceMs) return [];
  const { database, repairs } = context;
  const done: (Repair | undefined)[] = [];
  if (await setHostUnreachable(database.sql, host.id, true)) {
    done.push(repairs.record({ kind: "host_lost", hostId: host.id }));
  }
  for (const row of await listLiveSandboxes(database.sql, host.id)) {
    done.push(await loseSandbox(context, row));
  }
  return done.filter((one) => one !== undefined);
}

async function loseSandbox({ database, repairs }: PassContext, row: InventoryRow): Promise<Repair | undefined> {
  const about = { kind: "host_lost", sandboxId: row.id, hostId: row.hostId!, fromState: row.state } as const;
  const reason = "host_unreachable" as const;
  switch (row.state) {
    case "running":
    case "pausing":
    case "snapshotting":
      // The checkpoint of a paused sandbox goes on when the host is back, as what it is made of does.
      if (row.state === "snapshotting" && !isLive(row)) return undefined;
      return await repairs.carryOut({ ...about, toState: "lost", reason }, () => markLost(database, row, reason));
    case "starting":
      return await repairs.carryOut({ ...about, toState: "failed", reason }, async () => {
        const operation = await getOperation(database.sql, row.operationId!);
        const error = { code: reason, message: "the host went silent while it created the sandbox" };
        await finishOperation(database, operation!, { path: ["failed"], changes: { reason }, error });
      });
    default:
      // A resume or a delete goes on when the host is back: until then only the host knows.
      return undefined;
  }
}
