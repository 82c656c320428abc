/**
 * `torpor bench snapshots`: figures of the snapshot engine on this machine. Progress goes to stderr; stdout gets one JSON
 * object (docs/benchmarks.md explains each figure). Argument: the directory of the built native benchmark.
 */
import { openApi } from "../../../services/cli/client/api.ts";
import { apiTarget } from "../../../services/cli/client/api.ts";
import { machineFacts } from "../../../services/cli/bench/machine_facts.ts";
import { Progress } from "../../../services/cli/terminal/progress.ts";
import { benchChains } from "./chains.ts";
import { benchCheckpoint } from "./checkpoint.ts";
import { benchFork } from "./fork.ts";
import { benchFullRestore } from "./full_restore.ts";
import { benchNative } from "./native.ts";
import { benchPrefetch } from "./prefetch.ts";
import { benchReclaim } from "./reclaim.ts";
import { benchResume } from "./resume.ts";
import { benchSiblings } from "./siblings.ts";

const [nativeBuild] = Deno.args;
if (!nativeBuild) throw new Error("the directory of the built native benchmark is missing");

const progress = new Progress();
using api = openApi(await apiTarget());
/** In this order: what needs a quiet machine most comes first. */
const parts: [string, () => Promise<Record<string, number>>][] = [
  ["native: pager, scan, lookup", () => benchNative(nativeBuild)],
  ["resume, 256 MiB", () => benchResume(api, 256)],
  ["resume, 1,024 MiB", () => benchResume(api, 1024)],
  ["resume, 4,096 MiB", () => benchResume(api, 4096)],
  ["lazy and full restore, 1,024 MiB", () => benchFullRestore()],
  ["live checkpoint, 1,024 MiB", () => benchCheckpoint()],
  ["eight siblings, shared and private", () => benchSiblings()],
  ["fork into eight", () => benchFork(api)],
  ["guest reclaim", () => benchReclaim()],
  ["prefetch on and off", () => benchPrefetch()],
  ["byte-exact chains", () => benchChains()],
];

const report: Record<string, number> = {};
for (const [title, measure] of parts) {
  const figures = await progress.step(title, measure);
  Object.assign(report, figures);
  console.error(`  ${JSON.stringify(figures)}`);
}
report.resume_4096_over_256 = report.resume_ms_4096! / report.resume_ms_256!;
const rounded = Object.fromEntries(Object.entries(report).map(([name, value]) => [name, Number(value.toPrecision(4))]));
console.log(JSON.stringify({ bench: "snapshots", machine: machineFacts(), ...rounded }));
