/**
 * Runs inside the lane's machine: starts the real host agent, puts the scenarios to it one after the other, and tells
 * the results over the serial port. It ends with 0 when it got to its end, whatever the results are.
 */
import { TorporError } from "@torpor/errors";
import type { Job } from "../machine/job_disk.ts";
import { type Facts, formatMessage, type LaneMessage, type ScenarioResult } from "../machine/messages.ts";
import { HostAgent, loggedEvent } from "./host_agent.ts";
import { Lane, type Scenario, timed } from "./lane.ts";
import { PATHS } from "./paths.ts";
import { SCENARIOS } from "./scenarios/mod.ts";

/** Of one scenario. The slowest takes 90 s on an idle machine, and ten times as long on one where eight others work. */
const SCENARIO_TIMEOUT_MS = 900_000;

class TimedOut extends Error {}

async function main(): Promise<void> {
  const job = JSON.parse(await Deno.readTextFile(PATHS.job)) as Job;
  await using agent = new HostAgent();
  const [, startMs] = await timed(() => agent.start());
  tell({ type: "started", facts: { agent_start_ms: startMs, ...await hostFacts() } });
  const lane = new Lane(agent);
  for (const scenario of SCENARIOS) {
    if (job.scenarios.length > 0 && !job.scenarios.includes(scenario.name)) continue;
    tell({ type: "scenario-started", name: scenario.name });
    const result = await runScenario(scenario, lane);
    tell({ type: "scenario", result });
    // A call without an answer may still hold the host agent: what comes after would only tell of that.
    if (result.outcome === "timed_out") break;
  }
  tell({ type: "ended" });
}

async function hostFacts(): Promise<Facts> {
  const ready = await loggedEvent("host_ready") ?? {};
  const facts: Facts = { kernel: Deno.osRelease() };
  for (const name of ["accelerator", "tracking", "version", "host_cpu"]) {
    const value = ready[name];
    if (typeof value === "string" || typeof value === "boolean") facts[name] = value;
  }
  return facts;
}

async function runScenario(scenario: Scenario, lane: Lane): Promise<ScenarioResult> {
  const started = performance.now();
  const ending = async (): Promise<Pick<ScenarioResult, "outcome" | "message" | "facts">> => {
    try {
      const facts = await withTimeout(scenario.run(lane));
      await withTimeout(lane.cleanUp());
      return { outcome: "passed", message: "", facts };
    } catch (thrown) {
      return { ...await describeFailure(thrown, lane), facts: {} };
    }
  };
  const { outcome, message, facts } = await ending();
  return { name: scenario.name, outcome, ms: Math.round(performance.now() - started), message, facts };
}

async function describeFailure(thrown: unknown, lane: Lane): Promise<Pick<ScenarioResult, "outcome" | "message">> {
  if (thrown instanceof TimedOut) {
    return { outcome: "timed_out", message: [thrown.message, lane.agent.calls.describe()].filter(Boolean).join("; ") };
  }
  const message = thrown instanceof TorporError ? `${thrown.code}: ${thrown.message}` : String(thrown);
  try {
    await withTimeout(lane.cleanUp());
  } catch (error) {
    return { outcome: "failed", message: `${message}\ncleaning up after it: ${error}` };
  }
  const unsupported = thrown instanceof TorporError && thrown.code === "unimplemented";
  return { outcome: unsupported ? "unsupported" : "failed", message };
}

async function withTimeout<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TimedOut(`no end within ${SCENARIO_TIMEOUT_MS} ms`)), SCENARIO_TIMEOUT_MS);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

function tell(message: LaneMessage): void {
  console.log(formatMessage(message));
}

await main();
// A scenario that timed out has left calls behind.
Deno.exit(0);
