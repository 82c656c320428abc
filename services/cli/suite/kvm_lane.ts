import { TorporError } from "@torpor/errors";
import { addOutcomes, NOTHING, type Outcome, single } from "./outcome.ts";
import { runReporter } from "./run_reporter.ts";
import type { SuiteContext } from "./suites.ts";

/** What `tests/kvm/main.ts` prints, as far as it is counted here. */
export interface KvmReport {
  /** By series, e.g. "6.12". */
  kernel: Record<string, { scenarios: { name: string; outcome: string; message: string }[]; logs: string }>;
}

/** Runs the KVM lane (docs/kvm-lane.md). Its report is the outcome's detail `kernel`. */
export async function kvmLane(context: SuiteContext): Promise<Outcome> {
  const { success, answer, tail } = await runReporter("tests/kvm/main.ts", context);
  if (!success) return single("the KVM lane ran to its end", tail);
  return countKvmReport(JSON.parse(answer));
}

/**
 * One test for each scenario on each kernel.
 * @throws TorporError `internal` when the report has no scenario at all: nothing was tested.
 */
export function countKvmReport(report: KvmReport): Outcome {
  const kernels = Object.entries(report.kernel);
  let sum = NOTHING;
  for (const [series, { scenarios, logs }] of kernels) {
    if (scenarios.length === 0) throw new TorporError("internal", `no scenario ran on Linux ${series}`);
    for (const { name, outcome, message } of scenarios) {
      const result = outcome === "passed" ? "passed" : outcome === "unsupported" ? "skipped" : "failed";
      const failures = result === "failed"
        ? [{ name: `Linux ${series} > ${name}`, message: `${outcome}: ${message}\nlogs: ${logs}` }]
        : [];
      sum = addOutcomes(sum, { ...NOTHING, [result]: 1, failures });
    }
  }
  return { ...sum, details: { kernel: report.kernel } };
}
