/**
 * The KVM lane: runs the host agent with real KVM on an emulated machine (docs/kvm-lane.md). Progress goes to stderr, one
 * JSON object to stdout.
 *
 *     deno run --allow-all tests/kvm/main.ts [--kernel SERIES]… [--scenario NAME]…
 *
 * `TORPOR_CACHE`, `TORPOR_LIB_DIR`: guest images and native code; `TMPDIR`: where the job disk is made.
 */
import { parseArgs } from "node:util";
import { join } from "@std/path";
import { homePaths, torporHome } from "@torpor/config";
import { asTorporError, TorporError } from "@torpor/errors";
import { nativeFiles } from "@torpor/ffi";
import { buildLaneImages, KERNELS, type LaneImage } from "./image/mod.ts";
import { makeJobDisk, readJobOutput, stageJob } from "./machine/job_disk.ts";
import { runMachine } from "./machine/machine.ts";
import type { LaneMessage } from "./machine/messages.ts";
import { emptyRun, type KernelReport, type LaneRun, reportOf, shouldRetry } from "./machine/report.ts";

/** An idle machine takes 6 minutes for all scenarios on one kernel. At the lowest priority a busy one takes much longer. */
const MACHINE_TIMEOUT_MS = 45 * 60_000;

/** Ends the machine, and what follows cleans up. */
const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(name, () => stopping.abort(new TorporError("canceled", `ended by ${name}`)));
}

async function main(): Promise<Record<string, KernelReport>> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      kernel: { type: "string", multiple: true, default: [] },
      scenario: { type: "string", multiple: true, default: [] },
    },
  });
  const kernels = KERNELS.filter(({ series }) => values.kernel.length === 0 || values.kernel.includes(series));
  if (kernels.length === 0) {
    throw new TorporError("invalid_argument", `kernels are ${KERNELS.map(({ series }) => series).join(", ")}`);
  }
  const { cache } = homePaths(torporHome());
  const images = await buildLaneImages(cache, kernels, (line) => say(line));
  const directory = await Deno.makeTempDir({ prefix: "kvm-" });
  try {
    say("copying the host agent and the guest images");
    const staged = join(directory, "job");
    const native = nativeFiles(Deno.env.get("TORPOR_LIB_DIR")).library.replace(/\/[^/]+$/, "");
    await stageJob(staged, { cache, native });
    const reports: Record<string, KernelReport> = {};
    for (const image of images) {
      const logs = join(cache, "test", "kvm", image.series);
      reports[image.series] = await runKernel(image, staged, directory, logs, values.scenario);
    }
    return reports;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Runs the scenarios on one kernel; a run that hung or died is tried once more. */
async function runKernel(
  image: LaneImage,
  staged: string,
  directory: string,
  logsOfKernel: string,
  scenarios: string[],
): Promise<KernelReport> {
  const disk = join(directory, "job.ext4");
  const attempts: LaneRun[] = [];
  await Deno.remove(logsOfKernel, { recursive: true }).catch(ignoreMissing);
  do {
    const logs = join(logsOfKernel, `attempt-${attempts.length + 1}`);
    await Deno.mkdir(logs, { recursive: true });
    await makeJobDisk(staged, disk, { scenarios });
    const run = emptyRun();
    attempts.push(run);
    const started = performance.now();
    const onMessage = (message: LaneMessage) => {
      run.messages.push(message);
      const seconds = Math.round((performance.now() - started) / 1000);
      if (message.type === "scenario-started") say(`${image.series}: ${message.name} (after ${seconds} s)`);
      if (message.type === "scenario") say(`${image.series}: ${message.result.name}: ${message.result.outcome}`);
    };
    const serialLog = join(logs, "serial.log");
    run.end = await runMachine(image, disk, serialLog, MACHINE_TIMEOUT_MS, onMessage, stopping.signal);
    run.ms = Math.round(performance.now() - started);
    await readJobOutput(disk, logs);
    await Deno.remove(disk);
  } while (shouldRetry(attempts));
  return reportOf(image.version, attempts, logsOfKernel);
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

function say(line: string): void {
  console.error(line);
}

try {
  console.log(JSON.stringify({ kernel: await main() }));
} catch (thrown) {
  const { code, message, hint } = asTorporError(thrown);
  console.error(`${code}: ${message}${hint ? `\n${hint}` : ""}`);
  Deno.exitCode = 1;
}
