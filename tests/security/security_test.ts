/** The shorter cut of `./torpor test security`. */
import { assertEquals, assertGreater } from "@std/assert";
import { Arena } from "./adversary/arena.ts";
import { ATTEMPTS } from "./adversary/attempts/mod.ts";
import { runAttempts } from "./adversary/run_attempts.ts";
import { runChurn } from "./churn/churn.ts";

const QUICK_ROUNDS = 10;

Deno.test("nothing that an intruder tries from inside of a guest gets through", async () => {
  await using arena = await Arena.open();
  const results = await runAttempts(arena, ATTEMPTS.filter(({ quick }) => quick), () => {});
  assertGreater(results.length, 20);
  assertEquals(results.filter(({ breach, controlFailed }) => breach ?? controlFailed), []);
});

Deno.test("sandboxes that come and go while agents and machines are killed leave nothing", async () => {
  const { rounds, leaks, failures } = await runChurn({ rounds: QUICK_ROUNDS, seed: 5 });
  assertEquals([rounds, leaks, failures], [QUICK_ROUNDS, [], []]);
});
