import type { MachineEnd } from "./machine.ts";
import type { Facts, LaneMessage, ScenarioResult } from "./messages.ts";

/** What one run of the machine told. */
export interface LaneRun {
  messages: LaneMessage[];
  end: MachineEnd;
  ms: number;
}

/** The lane's result on one kernel. */
export interface KernelReport {
  /** Version of the kernel's Debian package. */
  version: string;
  passed: number;
  failed: number;
  /** Scenarios that need what the host agent does not have yet. */
  unsupported: number;
  /** 2: the first run hung or died. */
  attempts: number;
  ms: number;
  facts: Facts;
  scenarios: ScenarioResult[];
  /** Directory with the serial port's output and what the machine left, of each attempt. */
  logs: string;
}

/** A run that has not begun. */
export function emptyRun(): LaneRun {
  return { messages: [], end: { kind: "died", detail: "it was not started" }, ms: 0 };
}

/**
 * Whether to run once more: only after the first run, and only when that hung or died as nested virtualisation under emulation
 * does now and then. A wrong result is never tried again.
 */
export function shouldRetry(runs: readonly LaneRun[]): boolean {
  const [only, second] = runs;
  if (!only || second) return false;
  return !completed(only) && !resultsOf(only).some(({ outcome }) => outcome === "failed");
}

/** Sums up; what a run that did not get to its end has not told is one failure. */
export function reportOf(version: string, runs: readonly LaneRun[], logs: string): KernelReport {
  const last = runs.at(-1)!;
  const scenarios = resultsOf(last);
  const started = last.messages.find((message) => message.type === "started");
  if (!completed(last) && scenarios.every(({ outcome }) => outcome !== "timed_out")) scenarios.push(unfinished(last));
  const count = (...outcomes: ScenarioResult["outcome"][]) =>
    scenarios.filter(({ outcome }) => outcomes.includes(outcome)).length;
  return {
    version,
    passed: count("passed"),
    failed: count("failed", "timed_out"),
    unsupported: count("unsupported"),
    attempts: runs.length,
    ms: runs.reduce((sum, { ms }) => sum + ms, 0),
    facts: started?.facts ?? {},
    scenarios,
    logs,
  };
}

function resultsOf(run: LaneRun): ScenarioResult[] {
  return run.messages.flatMap((message) => message.type === "scenario" ? [message.result] : []);
}

function completed(run: LaneRun): boolean {
  const ended = run.messages.some(({ type }) => type === "ended");
  return ended && run.end.kind === "off" && !resultsOf(run).some(({ outcome }) => outcome === "timed_out");
}

function unfinished(run: LaneRun): ScenarioResult {
  const at = run.messages.findLast((message) => message.type === "scenario-started");
  const message = `the machine ${
    run.end.kind === "off" ? "switched itself off early" : run.end.kind
  }\n${run.end.detail}`;
  return { name: at?.name ?? "start", outcome: "failed", ms: run.ms, message, facts: {} };
}
