import type { Api } from "../client/api.ts";
import { type LifecycleResult, measureLifecycle } from "../lifecycle/measure.ts";
import type { Progress } from "../terminal/progress.ts";
import { type MachineFacts, machineFacts } from "./machine_facts.ts";
import { type Spread, spreadOf } from "./spread.ts";

/** How to measure. */
export interface LifecycleBenchOptions {
  runs: number;
  memoryMb: number;
  dirtyMb: number;
}

/** Times in milliseconds. A tier is how much was ready: "cold" boots a kernel, "warm" is a running or paused sandbox. */
export interface LifecycleBenchReport {
  bench: "lifecycle";
  machine: MachineFacts;
  accelerator: string;
  options: LifecycleBenchOptions;
  cold: { create_ms: Spread; create_to_first_exec_ms: Spread };
  warm: { exec_ms: Spread; pause_ms: Spread; resume_ms: Spread; resume_to_first_exec_ms: Spread };
  snapshot: { bytes: Spread; pages_resident: Spread; pages_served_at_first_exec: Spread };
  /** Of one and the same run: resume → first exec by cold create → first exec; pages served by pages resident. */
  ratio: { resume_to_cold: Spread; pages_served: Spread };
  state_preserved: boolean;
}

/** Measures the life of `runs` sandboxes, one after the other. */
export async function benchLifecycle(
  api: Api,
  options: LifecycleBenchOptions,
  progress: Progress,
): Promise<LifecycleBenchReport> {
  const results: LifecycleResult[] = [];
  const plan = { ...options, keep: false, signal: new AbortController().signal };
  for (let run = 1; run <= options.runs; run++) {
    results.push(
      await progress.step(
        `run ${run} of ${options.runs}`,
        (report) =>
          measureLifecycle(api, plan, (title, work) => {
            report(title);
            return work();
          }),
      ),
    );
  }
  const spread = (value: (result: LifecycleResult) => number) => spreadOf(results.map(value));
  return {
    bench: "lifecycle",
    machine: machineFacts(),
    accelerator: results[0]!.accelerator,
    options,
    cold: { create_ms: spread((r) => r.createMs), create_to_first_exec_ms: spread((r) => r.coldFirstExecMs) },
    warm: {
      exec_ms: spread((r) => r.execMs),
      pause_ms: spread((r) => r.pauseMs),
      resume_ms: spread((r) => r.resumeMs),
      resume_to_first_exec_ms: spread((r) => r.firstExecAfterResumeMs),
    },
    snapshot: {
      bytes: spread((r) => r.snapshotBytes),
      pages_resident: spread((r) => r.pagesResidentAtPause),
      pages_served_at_first_exec: spread((r) => r.pagesServedAtFirstExec),
    },
    ratio: {
      resume_to_cold: spread((r) => r.firstExecAfterResumeMs / r.coldFirstExecMs),
      pages_served: spread((r) => r.pagesServedAtFirstExec / r.pagesResidentAtPause),
    },
    state_preserved: results.every((r) => r.statePreserved),
  };
}
