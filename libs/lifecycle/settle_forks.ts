import { claimAbandonedForks, type Database, disownFork, type ForkRow } from "@torpor/db";
import type { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import type { Forks } from "./forks.ts";

/** A fork that was ended on behalf of its owner. */
export interface SettledFork {
  fork: ForkRow;
  /** Undefined: it has succeeded. */
  error: TorporError | undefined;
}

/** A living owner ends its fork itself; only this long after the deadline is it taken from it, ms. */
const DEADLINE_GRACE_MS = 5_000;

/** Ends up to `limit` forks that nobody works on, once the operations of their children have ended. */
export async function settleForks(
  database: Database,
  forks: Forks,
  owner: bigint,
  limit: number,
): Promise<SettledFork[]> {
  const claimed = await claimAbandonedForks(database.sql, owner, DEADLINE_GRACE_MS, limit);
  const settled = await Promise.all(claimed.map(async (fork) => {
    try {
      const error = await forks.settle(fork);
      return error === "open" ? undefined : { fork, error };
    } catch (thrown) {
      log("warn", "fork_unsettled", { operation_id: fork.operationId }, thrown);
      return undefined;
    } finally {
      // No effect on one that was closed.
      await disownFork(database.sql, fork.operationId);
    }
  }));
  return settled.filter((one) => one !== undefined);
}
