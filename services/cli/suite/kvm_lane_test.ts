import { assertEquals, assertThrows } from "@std/assert";
import { countKvmReport } from "./kvm_lane.ts";

function kernel(...outcomes: string[]) {
  return {
    scenarios: outcomes.map((outcome) => ({ name: `does ${outcome}`, outcome, message: "why" })),
    logs: "/logs",
  };
}

Deno.test("each scenario on each kernel is one test, and the report is kept", () => {
  const report = {
    kernel: { "6.1": kernel("passed", "unsupported"), "6.12": kernel("passed", "failed", "timed_out") },
  };
  const { failures, details, ...counts } = countKvmReport(report);
  assertEquals(counts, { passed: 2, failed: 2, skipped: 1 });
  assertEquals(failures.map(({ name }) => name), ["Linux 6.12 > does failed", "Linux 6.12 > does timed_out"]);
  assertEquals(details, report);
});

Deno.test("a kernel on which nothing ran is no success", () => {
  assertThrows(() => countKvmReport({ kernel: { "6.1": kernel("passed"), "6.12": kernel() } }));
});
