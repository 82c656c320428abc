/**
 * `torpor bench network`: figures of the sandboxes' network on this machine, in namespaces of its own. Progress goes to stderr; stdout
 * gets one JSON object (docs/benchmarks.md explains each figure). Arguments: the names of parts when not all are wanted.
 */
import { machineFacts } from "../../../services/cli/bench/machine_facts.ts";
import { Progress } from "../../../services/cli/terminal/progress.ts";
import { Arena } from "../../security/adversary/arena.ts";
import { makeGround } from "../../security/ground/mod.ts";
import { benchPorts } from "./ports.ts";
import { benchSlots } from "./slots.ts";
import { benchTraffic } from "./traffic.ts";

const parts: Record<string, () => Promise<Record<string, number>>> = {
  async slots() {
    await using ground = await makeGround();
    return await benchSlots(ground);
  },
  async traffic() {
    await using arena = await Arena.open();
    return await benchTraffic(arena);
  },
  ports: benchPorts,
};
const unknown = Deno.args.filter((name) => !(name in parts));
if (unknown.length > 0) {
  throw new Error(`no such parts: ${unknown.join(", ")}; there are ${Object.keys(parts).join(", ")}`);
}

const progress = new Progress();
const report: Record<string, number> = {};
for (const [name, measure] of Object.entries(parts)) {
  if (Deno.args.length > 0 && !Deno.args.includes(name)) continue;
  const figures = await progress.step(name, measure);
  Object.assign(report, figures);
  console.error(`  ${JSON.stringify(figures)}`);
}
const rounded = Object.fromEntries(Object.entries(report).map(([name, value]) => [name, Number(value.toPrecision(4))]));
console.log(JSON.stringify({ bench: "network", machine: machineFacts(), ...rounded }));
