import { join } from "@std/path";
import type { HomePaths } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { nativeDirectory } from "../deployment/native.ts";
import { REPOSITORY } from "../deployment/repository.ts";
import type { Report } from "../terminal/progress.ts";
import { runTool } from "../tool/run_tool.ts";

/** Figures by name, with what they were measured on; docs/benchmarks.md explains each. */
export interface SnapshotsBenchReport {
  bench: "snapshots";
  machine: Record<string, unknown>;
  [figure: string]: unknown;
}

/** Builds the native benchmark; its directory also has the native files of the host agents that measure. */
export async function buildNativeBench(paths: HomePaths, report: Report): Promise<string> {
  const directory = join(paths.cache, "native-bench");
  await runTool(["make", "-C", join(REPOSITORY, "ffi"), `BUILD_DIR=${directory}`, "bench-program"], {
    onLine: (line) => report(line.slice(0, 60)),
  });
  return directory;
}

/**
 * Measures the snapshot engine, with a deployment that is up and with host agents of its own.
 * @param figures which parts to measure; none: all.
 */
export async function benchSnapshots(
  paths: HomePaths,
  nativeBench: string,
  apiUrl: string,
  parts: readonly string[],
): Promise<SnapshotsBenchReport> {
  const program = join(REPOSITORY, "tests/bench/snapshots/main.ts");
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--frozen", "--allow-all", "--no-check", "--config", join(REPOSITORY, "deno.json")],
      ...[program, nativeBench, ...parts],
    ],
    env: { TORPOR_URL: apiUrl, TORPOR_LIB_DIR: await nativeDirectory(paths) },
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new TorporError("internal", "the benchmark failed; its last lines say why");
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
}
