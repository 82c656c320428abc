/**
 * Collects as a host agent would after its start, and kills itself at a step.
 * Arguments: data directory, name of the step, how many times it is passed before.
 */
import { namesIn } from "../../storage/durable_file.ts";
import { Layout } from "../../storage/layout.ts";
import { Collector } from "../collector.ts";
import { UNPACED } from "../pace.ts";
import { SnapshotReferences } from "../references.ts";
import { sealData } from "../seal_disk.ts";
import { sweepSnapshots } from "../sweep.ts";

const [home, fatalStep, passes] = Deno.args;
const layout = new Layout(home!);
const references = new SnapshotReferences();
const { newest, kept } = await sweepSnapshots(layout);
references.watch(() => [...newest.values(), ...kept.values()]);
for (const id of await namesIn(layout.snapshots)) await sealData(layout, id, UNPACED);
let left = Number(passes);
await using collector = new Collector({
  layout,
  references,
  intervalMs: 0,
  limits: { liveShare: 0.6, minSavedBytes: 4096, maxSources: 6 },
  onStep(step) {
    if (step === fatalStep && left-- === 0) Deno.kill(Deno.pid, "SIGKILL");
  },
});
await collector.collect();
