import { addOutcomes, type Outcome, single } from "./outcome.ts";
import { runReporter } from "./run_reporter.ts";
import type { SuiteContext } from "./suites.ts";

/** What `tests/security/main.ts` prints, as far as it is counted here. */
export interface SecurityReport {
  /** From inside of guests, each with a control. */
  attempts: number;
  /** Attempts that got through. */
  breaches: number;
  /** Attempts that show nothing, as they do not work where they are allowed either. */
  controls_failed: number;
  /** Sandboxes that came and went while others were killed. */
  churn_rounds: number;
  /** Calls that failed though nobody was killed. */
  churn_failures: number;
  /** What was left of them. */
  leaks: number;
  details: string[];
}

/** Fewer say too little. */
const LEAST_ATTEMPTS = 25;
const LEAST_ROUNDS = 200;

/** Attempts from inside of guests and a churn (docs/threat-model.md). Its report is in the details. */
export async function securityTests(context: SuiteContext): Promise<Outcome> {
  // A report that breaks a limit is one, too, though the program then ends with 1.
  const { answer, tail } = await runReporter("tests/security/main.ts", context);
  if (answer === "") return single("the security tests ran to their end", tail);
  return countSecurityReport(JSON.parse(answer));
}

/** One test for the attempts, one for their controls, one for the churn. */
export function countSecurityReport(report: SecurityReport): Outcome {
  const details = report.details.join("\n");
  const { attempts, breaches, controls_failed, churn_rounds, churn_failures, leaks } = report;
  const checks = [
    single(`${attempts} attempts`, attempts >= LEAST_ATTEMPTS && breaches === 0 ? undefined : details),
    single("each attempt works where it is allowed", controls_failed === 0 ? undefined : details),
    single(
      `${churn_rounds} rounds leave nothing`,
      churn_rounds >= LEAST_ROUNDS && churn_failures + leaks === 0 ? undefined : details,
    ),
  ];
  return { ...checks.reduce(addOutcomes), details: { ...report } };
}
