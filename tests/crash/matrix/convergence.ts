import { asTorporError } from "@torpor/errors";
import { type Deployment, PERIOD_MS } from "./deployment.ts";
import { disagreements } from "./invariants.ts";

/** After this many passes nothing is expected any more. */
const MOST_PASSES = 8;

/** What it took until everything agreed. */
export interface Convergence {
  /** Passes of the reconciler, one period apart, that had nothing to wait for. */
  periods: number;
  /** What still disagrees after {@linkcode MOST_PASSES}; empty: everything agrees. */
  disagreements: string[];
}

/**
 * Waits until the database, the host, its processes and its files agree. A pass while the host still works on an
 * operation does not count: it has to leave that alone.
 */
export async function converge(deployment: Deployment): Promise<Convergence> {
  for (let periods = 0;;) {
    await deployment.ready();
    const left = await disagreements(deployment);
    if (left.length === 0 || periods === MOST_PASSES) return { periods, disagreements: left };
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
    const busy = await hostIsBusy(deployment);
    await deployment.pass();
    if (!busy) periods += 1;
  }
}

async function hostIsBusy({ database, host }: Deployment): Promise<boolean> {
  const open = await database.sql<{ id: string; sandboxId: string }[]>`
    select id, sandbox_id from operations where state = 'running'`;
  const states = await Promise.all(open.map(async ({ id, sandboxId }) => {
    try {
      return (await host.getOperation({ operationId: id, sandboxId })).state;
    } catch (thrown) {
      if (asTorporError(thrown).httpStatus === 404) return "unknown";
      throw thrown;
    }
  }));
  return states.includes("running");
}
