import { formatBytes, formatMs, roundMs } from "../terminal/format.ts";
import { paintFor } from "../terminal/paint.ts";
import type { LifecycleResult } from "./measure.ts";

const PAGE_BYTES = 4096;

/** The last line of `demo --json`. */
export function demoJson(result: LifecycleResult, traceId: string): Record<string, unknown> {
  return {
    create_ms: roundMs(result.createMs),
    exec_ms: roundMs(result.execMs),
    pause_ms: roundMs(result.pauseMs),
    resume_ms: roundMs(result.resumeMs),
    first_exec_after_resume_ms: roundMs(result.firstExecAfterResumeMs),
    cold_first_exec_ms: roundMs(result.coldFirstExecMs),
    memory_mb: result.memoryMb,
    snapshot_bytes: result.snapshotBytes,
    pages_resident_at_pause: result.pagesResidentAtPause,
    pages_served_at_first_exec: result.pagesServedAtFirstExec,
    same_pid: result.samePid,
    counter_before: result.counterBefore,
    counter_after: result.counterAfter,
    state_preserved: result.statePreserved,
    accel: result.accelerator,
    trace_id: traceId,
  };
}

/** What happened, for people. */
export function demoStory(result: LifecycleResult, traceId: string, kept: boolean): string {
  const paint = paintFor(Deno.stdout);
  const time = (ms: number) => paint("bold", formatMs(ms));
  const ratio = result.firstExecAfterResumeMs / result.coldFirstExecMs;
  const share = result.pagesServedAtFirstExec / result.pagesResidentAtPause;
  const verdict = result.statePreserved
    ? paint("green", "Nothing was lost: same process, same memory, the counter went on.")
    : paint("red", "State was lost.");
  return `
A microVM with ${result.memoryMb} MiB, accelerated by ${result.accelerator}:

  create → first command   ${time(result.coldFirstExecMs)}   (create ${formatMs(result.createMs)})
  a command                ${time(result.execMs)}
  pause                    ${time(result.pauseMs)}   ${
    formatBytes(result.snapshotBytes)
  } on disk, ${result.vmProcessesAfterPause} VM processes left
  resume → first command   ${time(result.firstExecAfterResumeMs)}   (resume ${formatMs(result.resumeMs)}), ${
    (100 * ratio).toFixed(1)
  } % of a cold start
  pages fetched for it     ${
    paint("bold", String(result.pagesServedAtFirstExec))
  }   of ${result.pagesResidentAtPause} (${(100 * share).toFixed(1)} %, ${
    formatBytes(result.pagesServedAtFirstExec * PAGE_BYTES)
  }); the rest comes when it is touched
  counter                  ${result.counterBefore} before the pause, ${result.counterAfter} after the resume

${verdict}
Where the time went: ./torpor trace ${traceId}${kept ? `\nThe sandbox is still there: ${result.sandboxId}` : ""}`;
}
