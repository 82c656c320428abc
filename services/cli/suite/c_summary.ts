import { addOutcomes, NOTHING, type Outcome } from "./outcome.ts";

/**
 * Counts the outcome of a C test program, which prints `ok NAME` or `FAIL NAME…` for each test and at its end
 * `N passed, N failed`. A program that died before that line has failed, whatever it printed.
 */
export function readCSummary(lines: readonly string[], success: boolean): Outcome {
  let outcome = NOTHING;
  for (const line of lines) {
    const match = /^([0-9]+) passed, ([0-9]+) failed$/.exec(line.trim());
    if (match) outcome = addOutcomes(outcome, { ...NOTHING, passed: Number(match[1]), failed: Number(match[2]) });
  }
  const failures = lines.filter((line) => line.startsWith("FAIL ")).map((line) => ({
    name: line.slice(5),
    message: "",
  }));
  const silent = outcome.passed + outcome.failed === 0;
  if (silent || !success && outcome.failed === 0) {
    const message = lines.slice(-30).join("\n");
    return { ...outcome, failed: outcome.failed + 1, failures: [{ name: "the test program itself", message }] };
  }
  return { ...outcome, failures };
}
