import { listSandboxesToDrain } from "@torpor/db";
import type { PassContext } from "./pass.ts";
import type { Repair } from "./repairs.ts";

/** Pauses that a pass begins: each writes a sandbox's memory to its host's disk, so more would wait for each other. */
const DRAIN_LIMIT = 8;

/**
 * Begins to pause what runs on hosts that are being drained. It does not wait for the pauses: the next pass goes on with
 * what still runs, whoever began it.
 */
export async function drainHosts({ database, lifecycle, repairs }: PassContext): Promise<Repair[]> {
  const begun: (Repair | undefined)[] = [];
  for (const { id, teamId, hostId } of await listSandboxesToDrain(database.sql, DRAIN_LIMIT)) {
    const about = { kind: "host_drained" as const, sandboxId: id, hostId, fromState: "running", toState: "pausing" };
    begun.push(await repairs.carryOut(about, () => lifecycle.startPause(teamId, id)));
  }
  return begun.filter((one) => one !== undefined);
}
