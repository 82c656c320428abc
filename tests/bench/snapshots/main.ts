/**
 * `torpor bench snapshots`: figures of the snapshot engine on this machine. Progress goes to stderr; stdout gets one JSON
 * object (docs/benchmarks.md explains each figure). Arguments: the directory of the built native benchmark, and the names of
 * parts when not all are wanted.
 */
import { apiTarget, openApi } from "../../../services/cli/client/api.ts";
import { machineFacts } from "../../../services/cli/bench/machine_facts.ts";
import { Progress } from "../../../services/cli/terminal/progress.ts";
import { benchChains } from "./chains.ts";
import { benchCheckpoint } from "./checkpoint.ts";
import { benchFork } from "./fork.ts";
import { benchFullRestore } from "./full_restore.ts";
import { benchNative } from "./native.ts";
import { benchPrefetch } from "./prefetch.ts";
import { benchReclaim } from "./reclaim.ts";
import { benchResumes } from "./resume.ts";
import { benchSiblings } from "./siblings.ts";

const [nativeBuild, ...wanted] = Deno.args;
if (!nativeBuild) throw new Error("the directory of the built native benchmark is missing");

const progress = new Progress();
using api = openApi(await apiTarget());
/** In this order: what needs a quiet machine most comes first. */
const parts: Record<string, () => Promise<Record<string, number>>> = {
  native: () => benchNative(nativeBuild),
  resume: () => benchResumes(api, [256, 1024, 4096]),
  prefetch: benchPrefetch,
  restore: benchFullRestore,
  checkpoint: benchCheckpoint,
  siblings: benchSiblings,
  fork: () => benchFork(api),
  reclaim: benchReclaim,
  chains: benchChains,
};
const unknown = wanted.filter((name) => !(name in parts));
if (unknown.length > 0) {
  throw new Error(`no such parts: ${unknown.join(", ")}; there are ${Object.keys(parts).join(", ")}`);
}

const report: Record<string, number> = {};
for (const [name, measure] of Object.entries(parts)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const figures = await progress.step(name, measure);
  Object.assign(report, figures);
  console.error(`  ${JSON.stringify(figures)}`);
}
const rounded = Object.fromEntries(Object.entries(report).map(([name, value]) => [name, Number(value.toPrecision(4))]));
console.log(JSON.stringify({ bench: "snapshots", machine: machineFacts(), ...rounded }));
