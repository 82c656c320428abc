import type { Sandbox } from "@torpor/proto/torpor";
import { withSpan } from "@torpor/telemetry";
import type { Api } from "../client/api.ts";
import { required } from "../client/traced_call.ts";
import { listProcesses } from "../process/process_table.ts";
import { GuestShell } from "./guest_shell.ts";
import { fillMemory, readBootId, readCounter, startCounter, verifyWorkload } from "./workload.ts";

/** What to measure. */
export interface LifecyclePlan {
  memoryMb: number;
  /** Random bytes to write into guest memory before the pause, MiB. */
  dirtyMb: number;
  /** Leave the sandbox there at the end. */
  keep: boolean;
  signal: AbortSignal;
}

/** Times are milliseconds; each clock stops when the answer of the command has arrived here. */
export interface LifecycleResult {
  sandboxId: string;
  createMs: number;
  /** From the request to create until the first command has run. */
  coldFirstExecMs: number;
  /** A further command in a running sandbox, the median of several. */
  execMs: number;
  pauseMs: number;
  resumeMs: number;
  /** From the request to resume until the first command has run. */
  firstExecAfterResumeMs: number;
  memoryMb: number;
  snapshotBytes: number;
  /** Pages of 4,096 bytes. */
  pagesResidentAtPause: number;
  pagesServedAtFirstExec: number;
  /** Processes on this machine that name the sandbox in their command line. */
  vmProcessesBefore: number;
  vmProcessesAfterPause: number;
  samePid: boolean;
  counterBefore: number;
  counterAfter: number;
  statePreserved: boolean;
  accelerator: string;
}

/** Runs one step and shows it; its span has the step's name. */
export type Step = <T>(title: string, work: () => Promise<T>) => Promise<T>;

const WARM_EXECS = 5;

/**
 * Takes one sandbox through create, exec, pause, resume and exec, and checks in the guest that nothing was lost.
 * @throws TorporError whatever a call failed with; the sandbox is deleted in any case unless the plan keeps it.
 */
export async function measureLifecycle(api: Api, plan: LifecyclePlan, step: Step): Promise<LifecycleResult> {
  const { signal } = plan;
  const clock = new Clock();
  const request = { memoryMb: plan.memoryMb };
  const created = await step(
    `create a sandbox with ${plan.memoryMb} MiB`,
    () =>
      withSpan(
        "demo.create",
        {},
        async () => required((await api.sandboxes.createSandbox(request, { signal })).sandbox, "sandbox"),
      ),
  );
  const createMs = clock.ms();
  const { sandboxId } = created;
  try {
    const shell = new GuestShell(api, sandboxId, signal);
    const bootId = await step("run the first command", () => withSpan("demo.first_exec", {}, () => readBootId(shell)));
    const coldFirstExecMs = clock.ms();
    const execMs = await measureExec(shell);
    const checksum = await step(
      `write ${plan.dirtyMb} MiB of random data into its memory`,
      () => withSpan("demo.fill_memory", {}, () => fillMemory(shell, plan.dirtyMb)),
    );
    const counter = await step(
      "start a process that counts",
      () => withSpan("demo.start_counter", {}, () => startCounter(shell)),
    );
    const vmProcessesBefore = vmProcesses(sandboxId);
    const counterBefore = await readCounter(shell);
    const paused = await step("pause it to disk", () => pause(api, sandboxId, signal));
    const vmProcessesAfterPause = vmProcesses(sandboxId);
    const resumed = await resumeAndExec(api, sandboxId, shell, step, signal);
    const verification = await step(
      "check processes, memory and counter in the guest",
      () =>
        withSpan(
          "demo.verify",
          {},
          () => verifyWorkload(shell, { bootId, checksum, ...counter }, counterBefore, resumed.bootId),
        ),
    );
    const snapshot = required(paused.sandbox.snapshot, "snapshot");
    return {
      sandboxId,
      ...{ createMs, coldFirstExecMs, execMs, pauseMs: paused.ms },
      ...{ resumeMs: resumed.resumeMs, firstExecAfterResumeMs: resumed.firstExecMs },
      memoryMb: created.memoryMb,
      snapshotBytes: Number(snapshot.sizeBytes),
      pagesResidentAtPause: Number(snapshot.pagesResident),
      pagesServedAtFirstExec: resumed.pagesServed,
      ...{ vmProcessesBefore, vmProcessesAfterPause, counterBefore },
      ...{ samePid: verification.samePid, counterAfter: verification.counterAfter },
      statePreserved: verification.preserved && vmProcessesBefore > 0 && vmProcessesAfterPause === 0,
      accelerator: created.accelerator,
    };
  } finally {
    if (!plan.keep) {
      await step("delete it", () => withSpan("demo.delete", {}, () => api.sandboxes.deleteSandbox({ sandboxId })));
    }
  }
}

async function measureExec(shell: GuestShell): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < WARM_EXECS; i++) {
    const clock = new Clock();
    await readBootId(shell);
    times.push(clock.ms());
  }
  return times.sort((a, b) => a - b)[Math.floor(WARM_EXECS / 2)]!;
}

async function pause(api: Api, sandboxId: string, signal: AbortSignal): Promise<{ sandbox: Sandbox; ms: number }> {
  return await withSpan("demo.pause", {}, async () => {
    const clock = new Clock();
    const { sandbox } = await api.sandboxes.pauseSandbox({ sandboxId }, { signal });
    return { sandbox: required(sandbox, "sandbox"), ms: clock.ms() };
  });
}

async function resumeAndExec(api: Api, sandboxId: string, shell: GuestShell, step: Step, signal: AbortSignal) {
  const clock = new Clock();
  await step(
    "resume it",
    () => withSpan("demo.resume", {}, () => api.sandboxes.resumeSandbox({ sandboxId }, { signal })),
  );
  const resumeMs = clock.ms();
  const bootId = await step(
    "run a command in it",
    () => withSpan("demo.first_exec_after_resume", {}, () => readBootId(shell)),
  );
  const firstExecMs = clock.ms();
  const stats = await api.sandboxes.getMemoryStats({ sandboxId }, { signal });
  const pagesServed = Number(stats.dataPagesServed + stats.zeroPagesServed + stats.prefetchedPages);
  return { bootId, resumeMs, firstExecMs, pagesServed };
}

/** VMs and pagers of a sandbox have its id in their command lines (paths of its sockets and files). */
function vmProcesses(sandboxId: string): number {
  return listProcesses().filter(({ pid, argv }) =>
    pid !== Deno.pid && argv[0]!.includes("qemu-system") && argv.some((argument) => argument.includes(sandboxId))
  ).length;
}

class Clock {
  readonly #start = performance.now();

  ms(): number {
    return performance.now() - this.#start;
  }
}
