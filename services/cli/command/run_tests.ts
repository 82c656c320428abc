import { deploymentPaths } from "../deployment/deployment.ts";
import { runSuites, sumResults } from "../suite/run_suites.ts";
import { roundMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { defineAction } from "./define.ts";
import { EXIT } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor test` */
export const runTests = defineAction({
  name: "test",
  description: "Run all tests from nothing, or those that the filters choose: names of suites (format, lint, types, " +
    "ffi, guest, unit, control, integration, property) or parts of test files' paths. Only when named: kvm, which has " +
    "the host agent run with KVM inside an emulated machine (15 minutes), crash, which kills every process at " +
    "every step and plays 2,000 random histories (20 minutes), and security, which tries to get out of guests and looks " +
    "for what sandboxes leave (10 minutes)",
  rest: "FILTER…",
  async run({ args, rest }) {
    const results = await runSuites(deploymentPaths(), rest, new Progress());
    const sum = sumResults(results);
    if (args.json) {
      const suites = results.map(({ name, ms, outcome: { details: _, ...outcome } }) => ({
        name,
        ms: roundMs(ms),
        ...outcome,
      }));
      const details = Object.assign({}, ...results.map(({ outcome }) => outcome.details));
      printJson({ passed: sum.passed, failed: sum.failed, skipped: sum.skipped, suites, ...details });
    } else {
      for (const { name, message } of sum.failures) console.log(`FAILED ${name}\n${message}`);
      const skipped = sum.skipped > 0 ? `, ${sum.skipped} skipped` : "";
      console.log(`${sum.passed} passed, ${sum.failed} failed${skipped}`);
    }
    return sum.failed > 0 ? EXIT.failed : EXIT.ok;
  },
});
