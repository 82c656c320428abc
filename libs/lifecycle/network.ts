import { type Database, getSandboxOfAnyTeam, lockSandbox, type SandboxRow, setSandboxNetwork } from "@torpor/db";
import { asTorporError, TorporError } from "@torpor/errors";
import type { NetworkPolicy } from "@torpor/network";
import { log } from "@torpor/telemetry";
import type { HostClient } from "./host_clients.ts";
import { requestedNetwork } from "./host_calls.ts";
import { hostClientOf } from "./removed_host.ts";

/** A host replaces the rules in some ms, but waits for the operation that the sandbox is in. */
const TELL_TIMEOUT_MS = 10_000;

/** How often a call is made anew because the sandbox's version has grown meanwhile. */
const FENCED_TRIES = 3;

/** What became of a change of a sandbox's network. */
export interface UpdatedNetwork {
  sandbox: SandboxRow;
  /** false: it is recorded, and the reconciler tells the host until that confirms. */
  confirmed: boolean;
}

/**
 * Records what a sandbox may reach and tells its host. The record is the truth: whatever makes the sandbox run from then on
 * passes it on, so that a paused one needs no call.
 * @throws TorporError `sandbox_not_found`; `conflict` for a sandbox that cannot run any more.
 */
export async function updateNetwork(
  database: Database,
  hosts: (address: string) => HostClient,
  teamId: string,
  id: string,
  policy: NetworkPolicy,
): Promise<UpdatedNetwork> {
  const sandbox = await database.transaction("update_network", async (sql) => {
    const row = await lockSandbox(sql, teamId, id);
    if (!row || row.state === "deleted") throw new TorporError("sandbox_not_found", `no sandbox ${id}`);
    if (row.state === "failed" || row.state === "deleting") {
      throw new TorporError("conflict", `sandbox ${id} is ${row.state}`);
    }
    return (await setSandboxNetwork(sql, id, policy))!;
  });
  if (sandbox.state === "paused" || sandbox.hostId === null) return { sandbox, confirmed: sandbox.state === "paused" };
  try {
    await tellHost(database, await hostClientOf(database, hosts, sandbox.hostId), sandbox);
    return { sandbox, confirmed: true };
  } catch (thrown) {
    log("warn", "network_unconfirmed", { sandbox_id: id, code: asTorporError(thrown).code }, thrown);
    return { sandbox, confirmed: false };
  }
}

/**
 * Tells a host what a sandbox may reach, by the newest that is recorded.
 * @throws what the host throws; `conflict` when the sandbox is gone.
 */
export async function repeatNetwork(database: Database, host: HostClient, id: string): Promise<void> {
  const sandbox = await getSandboxOfAnyTeam(database.sql, id);
  if (!sandbox || sandbox.state === "deleted") throw new TorporError("conflict", `sandbox ${id} was deleted`);
  await tellHost(database, host, sandbox);
}

async function tellHost(database: Database, host: HostClient, first: SandboxRow): Promise<void> {
  let sandbox: SandboxRow | undefined = first;
  for (let tries = 1; sandbox; tries++) {
    const { id: sandboxId, version } = sandbox;
    try {
      await host.updateNetwork({ sandboxId, version, ...requestedNetwork(sandbox) }, { timeoutMs: TELL_TIMEOUT_MS });
      return;
    } catch (thrown) {
      // An operation has begun since the row was read.
      if (asTorporError(thrown).code !== "fenced" || tries === FENCED_TRIES) throw thrown;
      sandbox = await getSandboxOfAnyTeam(database.sql, sandboxId);
    }
  }
}
