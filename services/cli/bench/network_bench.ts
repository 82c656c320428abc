import { join } from "@std/path";
import { TorporError } from "@torpor/errors";
import type { HomePaths } from "@torpor/config";
import { nativeDirectory } from "../deployment/native.ts";
import { REPOSITORY } from "../deployment/repository.ts";

/** Figures by name, with what they were measured on; docs/benchmarks.md explains each. */
export interface NetworkBenchReport {
  bench: "network";
  machine: Record<string, unknown>;
  [figure: string]: unknown;
}

/**
 * Measures the network of sandboxes, in namespaces and with host agents of its own.
 * @param parts which parts to measure; none: all.
 */
export async function benchNetwork(paths: HomePaths, parts: readonly string[]): Promise<NetworkBenchReport> {
  const program = join(REPOSITORY, "tests/bench/network/main.ts");
  const run = ["run", "--quiet", "--frozen", "--allow-all", "--no-check", "--config", join(REPOSITORY, "deno.json")];
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...run, program, ...parts],
    env: { TORPOR_CACHE: paths.cache, TORPOR_LIB_DIR: await nativeDirectory(paths) },
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new TorporError("internal", "the benchmark failed; its last lines say why");
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
}
