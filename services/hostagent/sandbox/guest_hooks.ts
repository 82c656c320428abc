import { SpanStatusCode } from "@opentelemetry/api";
import { asTorporError } from "@torpor/errors";
import { scaledTimeoutMs } from "@torpor/config";
import { type HookReport, HookResult, HookStep } from "@torpor/proto/guest";
import { log } from "@torpor/telemetry";
import type { PauseSteps } from "../guest/calls.ts";
import { type HostContext, step } from "./context.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import type { RunningVm } from "./running_vm.ts";

/** How long the guest may take to bring its user's processes to a stand; measured: 1 to 3 ms with TCG. */
const FREEZE_CAP_MS = scaledTimeoutMs(1000);
/** Guest time after which it thaws by itself. A pause stops the vCPUs within milliseconds of the freeze. */
const WATCHDOG_MS = scaledTimeoutMs(10_000);
/** For the message and its answer, on a loaded host. */
const SLACK_MS = scaledTimeoutMs(1000);
/** The guest's kernel reports freed memory two seconds after it was freed (PAGE_REPORTING_DELAY), in one sweep. */
const REPORTING_DELAY_MS = 2000;
/** A sweep that pauses for so long is over. */
const SETTLED_MS = 150;
const POLL_MS = 25;
const REPORTING_MS = REPORTING_DELAY_MS + 2 * SETTLED_MS;

const FREEZE: PauseSteps = { freezeMs: FREEZE_CAP_MS, watchdogMs: WATCHDOG_MS };

/** How one step around a pause ended. */
export interface HookOutcome {
  step: "fstrim" | "sync" | "drop_caches" | "compact_memory" | "report_free" | "freeze";
  outcome: "ok" | "timed_out" | "failed";
  /** The guest's errno when failed, else 0. */
  errno: number;
  durationUs: number;
  bytesTrimmed: number;
  /** Free memory of the guest before and after, bytes. */
  freeBytesBefore: number;
  freeBytesAfter: number;
}

const STEP_NAMES: Partial<Record<HookStep, HookOutcome["step"]>> = {
  [HookStep.FSTRIM]: "fstrim",
  [HookStep.SYNC]: "sync",
  [HookStep.DROP_CACHES]: "drop_caches",
  [HookStep.COMPACT_MEMORY]: "compact_memory",
  [HookStep.FREEZE]: "freeze",
};

const CAPS: [keyof PauseSteps, HookOutcome["step"]][] = [
  ["fstrimMs", "fstrim"],
  ["syncMs", "sync"],
  ["dropCachesMs", "drop_caches"],
  ["compactMemoryMs", "compact_memory"],
  ["freezeMs", "freeze"],
];

const OUTCOMES: Partial<Record<HookResult, HookOutcome["outcome"]>> = {
  [HookResult.OK]: "ok",
  [HookResult.TIMED_OUT]: "timed_out",
  [HookResult.FAILED]: "failed",
};

/**
 * Lets the guest make itself smaller, and freezes its user's processes: call it right before the vCPUs stop. Never throws
 * for what goes wrong in the guest: a pause does not depend on it. Whoever does not stop the VM then calls
 * {@linkcode thawGuest}; a guest that was frozen thaws with the Wake of its resume.
 * @param caps each step's upper limit, ms; 0: off.
 * @throws the signal's reason.
 */
export async function prepareGuest(
  context: HostContext,
  sandboxId: string,
  vm: RunningVm,
  caps: ReclaimCaps,
  signal: AbortSignal,
): Promise<HookOutcome[]> {
  if (vm.ended) return [];
  const reclaim: PauseSteps = {
    fstrimMs: caps.fstrim_ms,
    syncMs: caps.sync_ms,
    dropCachesMs: caps.drop_caches_ms,
    compactMemoryMs: caps.compact_memory_ms,
  };
  return await step(context, sandboxId, "pause.prepare_guest", async (span) => {
    const outcomes: HookOutcome[] = [];
    if (caps.compact_memory_ms < REPORTING_MS) {
      outcomes.push(...await ask(sandboxId, vm, { ...reclaim, ...FREEZE }, signal));
    } else {
      outcomes.push(...await ask(sandboxId, vm, reclaim, signal));
      const compaction = outcomes.find(({ step }) => step === "compact_memory");
      outcomes.push(...await waitForReporting(vm, caps.compact_memory_ms, compaction, signal));
      outcomes.push(...await ask(sandboxId, vm, FREEZE, signal));
    }
    for (const { step, outcome, durationUs } of outcomes) {
      span.setAttribute(`torpor.hook.${step}`, outcome);
      span.setAttribute(`torpor.hook.${step}_us`, durationUs);
    }
    const bad = outcomes.find(({ outcome }) => outcome !== "ok");
    if (bad) span.setStatus({ code: SpanStatusCode.ERROR, message: `${bad.step} ${bad.outcome}` });
    return outcomes;
  });
}

/**
 * Freezes the user's processes right before the vCPUs of a VM stop that will go on, so that in a copy of it none of them runs
 * before it has been told who it is. Never throws for what goes wrong in the guest; {@linkcode thawGuest} ends it.
 * @throws the signal's reason.
 */
export async function freezeGuest(
  context: HostContext,
  sandboxId: string,
  vm: RunningVm,
  signal: AbortSignal,
): Promise<void> {
  if (vm.ended) return;
  await step(context, sandboxId, "guest.freeze", async (span) => {
    const [outcome] = await ask(sandboxId, vm, FREEZE, signal);
    span.setAttribute("torpor.hook.freeze", outcome?.outcome ?? "failed");
  });
}

/** Lets the user's processes of a VM go on. Never throws: the guest's watchdog does it too. */
export async function thawGuest(context: HostContext, sandboxId: string, vm: RunningVm): Promise<void> {
  if (vm.ended) return;
  try {
    await step(
      context,
      sandboxId,
      "guest.thaw",
      () => vm.wake({ thaw: true }, AbortSignal.timeout(SLACK_MS + FREEZE_CAP_MS)),
    );
  } catch (error) {
    log("warn", "guest_not_thawed", { sandbox_id: sandboxId, watchdog_ms: WATCHDOG_MS }, error);
  }
}

/** Sends the guest what it shall do. When there is no answer, all of it has failed. */
async function ask(
  sandboxId: string,
  vm: RunningVm,
  steps: PauseSteps,
  signal: AbortSignal,
): Promise<HookOutcome[]> {
  const { watchdogMs: _, ...capped } = steps;
  const sumMs = Object.values(capped).reduce((sum, ms) => sum + ms, 0);
  if (sumMs === 0) return [];
  const limit = AbortSignal.any([signal, AbortSignal.timeout(sumMs + SLACK_MS)]);
  const begin = performance.now();
  try {
    const channel = await vm.channel(limit);
    return (await channel.preparePause(steps, { signal: limit })).flatMap((report) => outcomeOf(report) ?? []);
  } catch (thrown) {
    signal.throwIfAborted();
    const error = asTorporError(thrown);
    log("warn", "guest_not_prepared", { sandbox_id: sandboxId }, error);
    const outcome = error.code === "deadline_exceeded" ? "timed_out" : "failed";
    const durationUs = Math.round((performance.now() - begin) * 1000);
    return CAPS.filter(([cap]) => steps[cap]).map(([, step]) => ({ ...nothing(step), outcome, durationUs }));
  }
}

/**
 * Waits until the guest's free memory has left the host, after a compaction. Nothing tells when: the guest reports in one
 * sweep, some time after it has freed, so this looks until that time is over and no more goes.
 */
async function waitForReporting(
  vm: RunningVm,
  capMs: number,
  compaction: HookOutcome | undefined,
  signal: AbortSignal,
): Promise<HookOutcome[]> {
  if (compaction?.outcome !== "ok") return [];
  const limitMs = capMs - compaction.durationUs / 1000;
  if (limitMs < REPORTING_MS) return [];
  const begin = performance.now();
  const elapsed = () => performance.now() - begin;
  let resident = vm.memory.pagesResident;
  let changed = begin;
  const settled = () => elapsed() > REPORTING_DELAY_MS + SETTLED_MS && performance.now() - changed > SETTLED_MS;
  while (elapsed() < limitMs && !settled()) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal.throwIfAborted();
    const now = vm.memory.pagesResident;
    if (now < resident) changed = performance.now();
    resident = now;
  }
  const outcome = settled() ? "ok" : "timed_out";
  return [{ ...nothing("report_free"), outcome, durationUs: Math.round(elapsed() * 1000) }];
}

function nothing(step: HookOutcome["step"]): Omit<HookOutcome, "outcome"> {
  return { step, errno: 0, durationUs: 0, bytesTrimmed: 0, freeBytesBefore: 0, freeBytesAfter: 0 };
}

/** The numbers are the guest's own word; what is no number that a guest can mean is dropped. */
function outcomeOf(report: HookReport): HookOutcome | undefined {
  const step = STEP_NAMES[report.step];
  const outcome = OUTCOMES[report.result];
  if (!step || !outcome) return undefined;
  return {
    step,
    outcome,
    errno: report.errnoValue,
    durationUs: safeNumber(report.durationUs),
    bytesTrimmed: safeNumber(report.bytesTrimmed),
    freeBytesBefore: safeNumber(report.freeBytesBefore),
    freeBytesAfter: safeNumber(report.freeBytesAfter),
  };
}

function safeNumber(value: bigint): number {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : 0;
}
