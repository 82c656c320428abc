import { deploymentPaths } from "../deployment/deployment.ts";
import type { Check } from "../doctor/check.ts";
import { kernelChecks } from "../doctor/kernel_checks.ts";
import { kvmCheck } from "../doctor/kvm_check.ts";
import { machineChecks } from "../doctor/machine_checks.ts";
import { paintFor, type Style } from "../terminal/paint.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction } from "./define.ts";
import { EXIT } from "./exit_codes.ts";
import { printJson } from "./print.ts";

const MARKS: Record<Check["state"], [Style, string]> = {
  ok: ["green", "✓"],
  limited: ["yellow", "!"],
  missing: ["red", "✗"],
  unknown: ["dim", "?"],
};

/** `torpor doctor` */
export const doctor = defineAction({
  name: "doctor",
  description: "Tell what this machine has, what it lacks, and what that costs. Fails when Torpor cannot run on it",
  async run({ args }) {
    const paths = deploymentPaths();
    const groups = await Promise.all([kvmCheck(), kernelChecks(paths), machineChecks(paths)]);
    const checks = groups.flat();
    const usable = checks.every(({ state }) => state !== "missing");
    if (args.json) printJson({ usable, checks });
    else {
      const paint = paintFor(Deno.stdout);
      console.log(formatTable(checks.map(({ name, state, found, cost }) => {
        const [style, mark] = MARKS[state];
        return [paint(style, mark), name, cost ? `${found} ${paint("dim", `— ${cost}`)}` : found];
      })));
      console.log(usable ? "\nTorpor can run here." : "\nTorpor cannot run here yet.");
    }
    return usable ? EXIT.ok : EXIT.failed;
  },
});
