import { assertEquals } from "@std/assert";
import { readCSummary } from "./c_summary.ts";

Deno.test("the summary lines of several programs are added up, failed tests are named", () => {
  const outcome = readCSummary(["ok a", "FAIL b: 1 != 2", "1 passed, 1 failed", "ok c", "1 passed, 0 failed"], false);
  assertEquals([outcome.passed, outcome.failed], [2, 1]);
  assertEquals(outcome.failures, [{ name: "b: 1 != 2", message: "" }]);
});

Deno.test("a program that dies without a summary, or fails after a good one, has failed", () => {
  assertEquals(readCSummary(["ok a", "AddressSanitizer: heap-use-after-free"], false).failed, 1);
  assertEquals(readCSummary([], true).failed, 1);
  assertEquals(readCSummary(["1 passed, 0 failed", "LeakSanitizer: leak"], false).failed, 1);
});
