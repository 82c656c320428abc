import { assertEquals } from "@std/assert";
import { Refusal } from "./refusal.ts";
import { RefusalLog } from "./refusal_log.ts";
import type { Outcome } from "./slot_proxy.ts";

function refused(slotAddress: string, outcome: Outcome["outcome"] = "not_allowed"): Outcome {
  return { slotAddress, protocol: "tls", outcome, name: "a.com", error: new Refusal("not_allowed", "detail") };
}

Deno.test("a guest that does not stop asking fills no log, and takes nothing from another", () => {
  const log = new RefusalLog();
  const told = Array.from({ length: 1000 }, () => log.take(refused("10.250.0.1"), 0)).filter((each) => each);
  assertEquals(told.length, 10);
  assertEquals(told[0], {
    message: "refused",
    slotAddress: "10.250.0.1",
    protocol: "tls",
    reason: "not_allowed",
    name: "a.com",
    detail: "detail",
    untold: 0,
  });
  assertEquals(log.take(refused("10.250.0.3"), 0)?.untold, 0);
  assertEquals(log.take(refused("10.250.0.1"), 5000), undefined);
  // What was left out is told with the next one.
  assertEquals(log.take(refused("10.250.0.1"), 7000)?.untold, 991);
});

Deno.test("what is no news is not told", () => {
  const log = new RefusalLog();
  for (const outcome of ["passed", "abandoned", "rules_changed", "idle"] as const) {
    assertEquals(log.take(refused("10.250.0.1", outcome), 0), undefined);
  }
});
