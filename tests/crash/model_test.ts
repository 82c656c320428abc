import { assertEquals } from "@std/assert";
import { runModel } from "./model/run_model.ts";

Deno.test("any history comes to rest with the database and the hosts in agreement", async () => {
  const sequences = Number(Deno.env.get("MODEL_RUNS") ?? 40);
  const seed = Number(Deno.env.get("MODEL_SEED") ?? crypto.getRandomValues(new Int32Array(1))[0]);
  console.log(`model_seed ${seed}`);
  const report = await runModel({ sequences, seed });
  assertEquals(report.violations, []);
  assertEquals(report.sequences, sequences);
});
