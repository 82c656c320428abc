import { addOutcomes, type Outcome, single } from "./outcome.ts";
import { runReporter } from "./run_reporter.ts";
import type { SuiteContext } from "./suites.ts";

/** What `tests/crash/main.ts` prints, as far as it is counted here. */
export interface CrashReport {
  /** Processes that were killed, each at another step. */
  cases: number;
  violations: number;
  /** Passes of the reconciler until everything agreed again, at most. */
  max_convergence_periods: number;
  /** Random histories. */
  model_sequences: number;
  model_violations: number;
  /** What was violated. */
  details: string[];
}

/** Everything must agree again after so many passes. */
const MOST_PERIODS = 2;

/** Kills processes at every step and plays random histories (docs/crash-tests.md). Its report is in the details. */
export async function crashTests(context: SuiteContext): Promise<Outcome> {
  // A report that breaks a limit is one, too, though the program then ends with 1.
  const { answer, tail } = await runReporter("tests/crash/main.ts", context);
  if (answer === "") return single("the crash tests ran to their end", tail);
  return countCrashReport(JSON.parse(answer));
}

/** One test for the killed processes, one for the time that it took, one for the histories. */
export function countCrashReport(report: CrashReport): Outcome {
  const details = report.details.join("\n");
  const checks = [
    single(`${report.cases} processes killed`, report.cases > 0 && report.violations === 0 ? undefined : details),
    single(
      `at rest after ${MOST_PERIODS} passes`,
      report.max_convergence_periods <= MOST_PERIODS ? undefined : `it took ${report.max_convergence_periods}`,
    ),
    single(
      `${report.model_sequences} histories`,
      report.model_sequences > 0 && report.model_violations === 0 ? undefined : details,
    ),
  ];
  return { ...checks.reduce(addOutcomes), details: { ...report } };
}
