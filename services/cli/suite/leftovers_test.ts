import { assertEquals } from "@std/assert";
import { isAlive, readProcess } from "../process/process_table.ts";
import { findAndEndLeftovers, machineState, RUN_VARIABLE } from "./leftovers.ts";

Deno.test("a process that a run has left behind is found by its mark, and ended", async () => {
  const run = crypto.randomUUID();
  const before = machineState();
  assertEquals(await findAndEndLeftovers(run, `/nowhere/${run}`, before), []);
  const child = new Deno.Command("sleep", { args: ["60"], env: { [RUN_VARIABLE]: run } }).spawn();
  const process = readProcess(child.pid)!;
  const [left] = await Promise.all([findAndEndLeftovers(run, `/nowhere/${run}`, before, 100), child.status]);
  assertEquals(left.map((line) => line.replace(/\S*sleep/, "sleep")), [`process ${child.pid}: sleep 60`]);
  assertEquals(isAlive(process), false);
});

Deno.test("what was not there before is named", async () => {
  const before = machineState();
  const [removed, ...mounts] = before.mounts;
  assertEquals(await findAndEndLeftovers("none", "/nowhere/at/all", { ...before, mounts }), [`mount: ${removed}`]);
});
