import { benchLifecycle, type LifecycleBenchReport } from "../bench/lifecycle_bench.ts";
import { benchControlPlane } from "../bench/control_plane_bench.ts";
import { benchNetwork } from "../bench/network_bench.ts";
import type { Spread } from "../bench/spread.ts";
import { benchSnapshots, buildNativeBench } from "../bench/snapshots_bench.ts";
import { apiTarget, openApi } from "../client/api.ts";
import { deploymentPaths } from "../deployment/deployment.ts";
import { installPackages, missingPackages } from "../deployment/packages.ts";
import { buildDatabaseDriver } from "../deployment/database_driver.ts";
import { buildImages } from "../deployment/images.ts";
import { buildNative } from "../deployment/native.ts";
import { bringUp, providePackages } from "../deployment/up.ts";
import { formatBytes, formatMs } from "../terminal/format.ts";
import { Progress } from "../terminal/progress.ts";
import { formatTable } from "../terminal/table.ts";
import { defineAction, integerOption } from "./define.ts";
import { EXIT, UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor bench` */
export const bench = defineAction({
  name: "bench",
  description:
    "Measure a sandbox's life (cold create, exec, pause, resume, first exec), the snapshot engine, the control plane, " +
    "or the network",
  args: {
    name: {
      type: "positional",
      required: false,
      description:
        "What to measure: lifecycle (default), snapshots (some minutes, 5 GiB of memory), control-plane (two minutes) " +
        "or network (two minutes)",
    },
    parts: {
      type: "string",
      description: "snapshots, control-plane, network: only these parts, separated by commas",
      valueHint: "names",
    },
    runs: { type: "string", description: "Sandboxes to measure (default: 5)", valueHint: "number" },
    memory: { type: "string", description: "MiB of guest memory (default: 512)", valueHint: "mib" },
    dirty: { type: "string", description: "MiB of random data to write before the pause (default: 128)" },
  },
  async run({ args }) {
    if (args.name === "snapshots") return await runSnapshots(args.json, args.parts?.split(",") ?? []);
    if (args.name === "control-plane") return await runControlPlane(args.json, args.parts?.split(",") ?? []);
    if (args.name === "network") return await runNetwork(args.json, args.parts?.split(",") ?? []);
    if ((args.name ?? "lifecycle") !== "lifecycle") throw new UsageError(`unknown benchmark: ${args.name}`);
    const options = {
      runs: integerOption(args.runs, "--runs", 1, 1000) ?? 5,
      memoryMb: integerOption(args.memory, "--memory", 128, 65_536) ?? 512,
      dirtyMb: integerOption(args.dirty, "--dirty", 1, 65_536) ?? 128,
    };
    const progress = new Progress();
    await bringUp(progress);
    using api = openApi(await apiTarget());
    const report = await benchLifecycle(api, options, progress);
    if (args.json) printJson(report);
    else show(report);
    return report.state_preserved ? EXIT.ok : EXIT.failed;
  },
});

async function runSnapshots(json: boolean | undefined, parts: string[]): Promise<number> {
  const progress = new Progress();
  const { deployment } = await bringUp(progress);
  const paths = deploymentPaths();
  const native = await progress.step("build the native benchmark", (report) => buildNativeBench(paths, report));
  const report = await benchSnapshots(paths, native, deployment.apiUrl, parts);
  showFigures(json, report);
  return report.chains_wrong ? EXIT.failed : EXIT.ok;
}

async function runControlPlane(json: boolean | undefined, parts: string[]): Promise<number> {
  const progress = new Progress();
  const missing = await missingPackages();
  if (missing.length > 0) {
    await progress.step(`installing ${missing.length} Debian packages`, (report) => installPackages(missing, report));
  }
  const report = await benchControlPlane(parts);
  showFigures(json, report);
  return report.overcommits ? EXIT.failed : EXIT.ok;
}

async function runNetwork(json: boolean | undefined, parts: string[]): Promise<number> {
  const progress = new Progress();
  const paths = deploymentPaths();
  await providePackages(progress);
  await progress.step("native code", (report) => buildNative(paths, report));
  await progress.step("database driver", buildDatabaseDriver);
  await progress.step("guest images", (report) => buildImages(paths, report));
  showFigures(json, await benchNetwork(paths, parts));
  return EXIT.ok;
}

function showFigures(
  json: boolean | undefined,
  report: { bench: string; machine: unknown; [figure: string]: unknown },
) {
  if (json) return printJson(report);
  const { bench: _, machine: __, ...figures } = report;
  console.log(formatTable(Object.entries(figures).map(([name, value]) => [name, String(value)])));
}

function show({ machine, accelerator, options, cold, warm, snapshot, ratio }: LifecycleBenchReport): void {
  const row = (name: string, { median, min, max }: Spread, format: (value: number) => string) => [
    name,
    format(median),
    format(min),
    format(max),
  ];
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  console.log(`${machine.processor}, ${machine.cores} cores, Linux ${machine.kernel}, ${accelerator}`);
  console.log(`${options.runs} runs, ${options.memoryMb} MiB, ${options.dirtyMb} MiB of random data\n`);
  console.log(formatTable([
    ["", "MEDIAN", "LEAST", "MOST"],
    row("cold: create", cold.create_ms, formatMs),
    row("cold: create → first exec", cold.create_to_first_exec_ms, formatMs),
    row("warm: exec", warm.exec_ms, formatMs),
    row("warm: pause", warm.pause_ms, formatMs),
    row("warm: resume", warm.resume_ms, formatMs),
    row("warm: resume → first exec", warm.resume_to_first_exec_ms, formatMs),
    row("resume by cold, to first exec", ratio.resume_to_cold, percent),
    row("snapshot", snapshot.bytes, formatBytes),
    row("pages served at the first exec", ratio.pages_served, percent),
  ]));
}
