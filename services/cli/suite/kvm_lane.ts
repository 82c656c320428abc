import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { REPOSITORY } from "../deployment/repository.ts";
import { runLines } from "../tool/run_tool.ts";
import { addOutcomes, NOTHING, type Outcome, single } from "./outcome.ts";
import type { SuiteContext } from "./suites.ts";

/** What `tests/kvm/main.ts` prints, as far as it is counted here. */
export interface KvmReport {
  /** By series, e.g. "6.12". */
  kernel: Record<string, { scenarios: { name: string; outcome: string; message: string }[]; logs: string }>;
}

/** Runs the KVM lane (docs/kvm-lane.md). Its report is the outcome's detail `kernel`. */
export async function kvmLane(context: SuiteContext): Promise<Outcome> {
  const options = ["--quiet", "--frozen", "--allow-all", "--no-check"];
  const argv = [Deno.execPath(), "run", ...options, join(REPOSITORY, "tests/kvm/main.ts")];
  const lines: string[] = [];
  let answer = "";
  const { success } = await runLines(
    argv,
    { cwd: REPOSITORY, env: { ...context.env, NO_COLOR: "1" } },
    (line, stream) => {
      if (stream === "stdout") answer = line;
      else context.onLine(line);
      lines.push(line);
    },
  );
  if (!success) return single("the KVM lane ran to its end", lines.slice(-40).join("\n"));
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
