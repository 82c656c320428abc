import fc from "fast-check";
import { history, SANDBOXES } from "./action.ts";
import { HistoryRun } from "./history_run.ts";
import { ModelPlane } from "./model_plane.ts";

/** Which histories to run. */
export interface ModelOptions {
  sequences: number;
  /** The same seed gives the same histories; how they interleave is up to the machine. */
  seed: number;
  /** Called after each history. */
  onSequence?: () => void;
}

/** What histories have come to. */
export interface ModelReport {
  seed: number;
  /** Histories that came to rest with everybody in agreement. */
  sequences: number;
  violations: string[];
}

/**
 * Random concurrent histories with hosts that fail, lie, lose replies and deliver calls twice, VMs that die, agents that
 * pause by themselves and services that vanish. Afterwards a few passes must bring everything to rest and into agreement.
 * Stops at the first history that does not, and looks for a shorter one.
 */
export async function runModel({ sequences, seed, onSequence }: ModelOptions): Promise<ModelReport> {
  await using plane = await ModelPlane.start();
  let checked = 0;
  const property = fc.asyncProperty(history, async (groups) => {
    await plane.startOver();
    const run = new HistoryRun(plane);
    await run.hostsComeBack();
    for (let i = 0; i < SANDBOXES - 1; i++) await run.create();
    for (const group of groups) await run.actTogether(group);
    await run.rest();
    await run.check();
    await run.cleanUp();
    checked += 1;
    onSequence?.();
  });
  const details = await fc.check(property, { numRuns: sequences, seed });
  if (!details.failed) return { seed, sequences: checked, violations: [] };
  return { seed, sequences: details.numRuns - 1, violations: [fc.defaultReportMessage(details)!] };
}
