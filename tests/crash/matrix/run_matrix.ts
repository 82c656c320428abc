import type { CrashCase } from "./cases.ts";
import { Deployment } from "./deployment.ts";
import { type CaseResult, runCase } from "./run_case.ts";
import { Subject } from "./subject.ts";

/** Runs cases one after the other on one deployment, until `signal`; at the end nothing may be left on the host. */
export async function runMatrix(
  cases: readonly CrashCase[],
  onResult: (result: CaseResult) => void,
  signal?: AbortSignal,
): Promise<CaseResult[]> {
  await using deployment = await Deployment.start();
  const subject = new Subject(deployment);
  const results: CaseResult[] = [];
  const note = (result: CaseResult) => {
    results.push(result);
    onResult(result);
  };
  for (const one of cases) {
    // What runs is taken down as usual.
    if (signal?.aborted) break;
    note(await runCase(deployment, subject, one));
  }
  await subject.remove();
  await deployment.host.collectSnapshots({});
  const left = await Array.fromAsync(Deno.readDir(`${deployment.directory}/snapshots`));
  const violations = left.map(({ name }) => `snapshots/${name} is left`);
  note({ name: "after all cases nothing is stored", periods: 0, convergedMs: 0, violations });
  return results;
}
