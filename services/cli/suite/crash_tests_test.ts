import { assertEquals } from "@std/assert";
import { countCrashReport, type CrashReport } from "./crash_tests.ts";

const GOOD: CrashReport = {
  cases: 129,
  violations: 0,
  max_convergence_periods: 2,
  model_sequences: 2_000,
  model_violations: 0,
  details: [],
};

function counts(changes: Partial<CrashReport>): [number, number] {
  const { passed, failed } = countCrashReport({ ...GOOD, ...changes });
  return [passed, failed];
}

Deno.test("a crash report that keeps all limits has passed, and each one that is broken is a failed test", () => {
  assertEquals(counts({}), [3, 0]);
  assertEquals(counts({ violations: 1 }), [2, 1]);
  assertEquals(counts({ max_convergence_periods: 3 }), [2, 1]);
  assertEquals(counts({ model_violations: 1 }), [2, 1]);
  assertEquals(counts({ cases: 0, model_sequences: 0 }), [1, 2]);
});
