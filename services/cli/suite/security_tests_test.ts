import { assertEquals } from "@std/assert";
import { countSecurityReport, type SecurityReport } from "./security_tests.ts";

const GOOD: SecurityReport = {
  attempts: 70,
  breaches: 0,
  controls_failed: 0,
  churn_rounds: 200,
  churn_failures: 0,
  leaks: 0,
  details: [],
};

function counts(changes: Partial<SecurityReport>): [number, number] {
  const { passed, failed } = countSecurityReport({ ...GOOD, ...changes });
  return [passed, failed];
}

Deno.test("a security report that keeps all limits has passed, and each one that is broken is a failed test", () => {
  assertEquals(counts({}), [3, 0]);
  assertEquals(counts({ breaches: 1 }), [2, 1]);
  assertEquals(counts({ attempts: 24 }), [2, 1]);
  assertEquals(counts({ controls_failed: 1 }), [2, 1]);
  assertEquals(counts({ churn_rounds: 199 }), [2, 1]);
  assertEquals(counts({ leaks: 1 }), [2, 1]);
  assertEquals(counts({ churn_failures: 1 }), [2, 1]);
});
