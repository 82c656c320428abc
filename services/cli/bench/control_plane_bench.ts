import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import { REPOSITORY } from "../deployment/repository.ts";

/** Figures by name, with what they were measured on; docs/benchmarks.md explains each. */
export interface ControlPlaneBenchReport {
  bench: "control-plane";
  machine: Record<string, unknown>;
  [figure: string]: unknown;
}

/**
 * Measures the control plane, with a database server and services of its own and hosts without VMs.
 * @param parts which parts to measure; none: all.
 */
export async function benchControlPlane(parts: readonly string[]): Promise<ControlPlaneBenchReport> {
  const program = join(REPOSITORY, "tests/bench/control-plane/main.ts");
  const run = ["run", "--quiet", "--frozen", "--allow-all", "--no-check", "--config", join(REPOSITORY, "deno.json")];
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...run, program, ...parts],
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new TorporError("internal", "the benchmark failed; its last lines say why");
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
}
