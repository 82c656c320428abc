/**
 * `torpor bench control-plane`: figures of the control plane on this machine, with real PostgreSQL and real services.
 * Progress goes to stderr; stdout gets one JSON object (docs/benchmarks.md explains each figure). Arguments: the names of parts
 * when not all are wanted.
 */
import { machineFacts } from "../../../services/cli/bench/machine_facts.ts";
import { Progress } from "../../../services/cli/terminal/progress.ts";
import { benchLifecycle } from "./lifecycle.ts";
import { benchPlacement } from "./placement.ts";
import { Plane } from "./plane.ts";
import { benchReconcile } from "./reconcile.ts";

const parts: Record<string, (plane: Plane) => Promise<Record<string, number>>> = {
  lifecycle: benchLifecycle,
  placement: benchPlacement,
  reconcile: benchReconcile,
};
const unknown = Deno.args.filter((name) => !(name in parts));
if (unknown.length > 0) {
  throw new Error(`no such parts: ${unknown.join(", ")}; there are ${Object.keys(parts).join(", ")}`);
}

const progress = new Progress();
const report: Record<string, number> = {};
{
  await using plane = await progress.step("start PostgreSQL", () => Plane.open());
  await progress.step("start the services", async () => {
    await plane.start("scheduler");
    // Passes are asked for, so that each is measured.
    await plane.start("reconciler", { TORPOR_RECONCILE_INTERVAL_MS: "600000" });
    await plane.start("api");
  });
  for (const [name, measure] of Object.entries(parts)) {
    if (Deno.args.length > 0 && !Deno.args.includes(name)) continue;
    const figures = await progress.step(name, () => measure(plane));
    Object.assign(report, figures);
    console.error(`  ${JSON.stringify(figures)}`);
  }
}
const rounded = Object.fromEntries(Object.entries(report).map(([name, value]) => [name, Number(value.toPrecision(4))]));
console.log(JSON.stringify({ bench: "control-plane", machine: machineFacts(), ...rounded }));
