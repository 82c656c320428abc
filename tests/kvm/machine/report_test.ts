import { assertEquals, assertStringIncludes } from "@std/assert";
import type { MachineEnd } from "./machine.ts";
import { formatMessage, type LaneMessage, parseMessage, type ScenarioResult } from "./messages.ts";
import { type LaneRun, reportOf, shouldRetry } from "./report.ts";

function run(kind: MachineEnd["kind"], outcomes: ScenarioResult["outcome"][], ...last: LaneMessage[]): LaneRun {
  const results = outcomes.map((outcome, index) => ({ name: `s${index}`, outcome, ms: 1, message: "", facts: {} }));
  const told = results.map((result): LaneMessage => ({ type: "scenario", result }));
  return {
    messages: [{ type: "started", facts: { kernel: "6.1" } }, ...told, ...last],
    end: { kind, detail: "last words" },
    ms: 10,
  };
}

const ENDED: LaneMessage = { type: "ended" };
const counts = (...runs: LaneRun[]) => {
  const { passed, failed, unsupported, attempts, ms } = reportOf("6.1.1", runs, "/logs");
  return { passed, failed, unsupported, attempts, ms };
};

Deno.test("scenarios are counted by their outcome", () => {
  const whole = run("off", ["passed", "passed", "unsupported"], ENDED);
  assertEquals(shouldRetry([whole]), false);
  assertEquals(counts(whole), { passed: 2, failed: 0, unsupported: 1, attempts: 1, ms: 10 });
});

Deno.test("a run that hangs or dies is tried once more, one with a wrong result never", () => {
  const hung = run("hung", ["passed"], { type: "scenario-started", name: "fork" });
  const timedOut = run("off", ["passed", "timed_out"], ENDED);
  assertEquals([hung, timedOut, run("died", [])].map((first) => shouldRetry([first])), [true, true, true]);
  assertEquals(shouldRetry([hung, hung]), false);
  assertEquals(shouldRetry([run("hung", ["failed"])]), false);
  assertEquals(shouldRetry([run("off", ["failed"], ENDED)]), false);
});

Deno.test("what a dead machine has not told is a failure with the machine's last words", () => {
  const dead = run("died", ["passed"], { type: "scenario-started", name: "fork" });
  assertEquals(counts(dead, dead), { passed: 1, failed: 1, unsupported: 0, attempts: 2, ms: 20 });
  const { name, message } = reportOf("6.1.1", [dead], "/logs").scenarios.at(-1)!;
  assertEquals(name, "fork");
  assertStringIncludes(message, "last words");
});

Deno.test("a machine that switches itself off before its last message has failed, whatever had passed", () => {
  assertEquals(counts(run("off", ["passed"])).failed, 1);
});

Deno.test("messages are found among what the kernel prints, garbled ones are not taken for one", () => {
  const message: LaneMessage = { type: "scenario-started", name: "fork" };
  const line = formatMessage(message);
  assertEquals(parseMessage(line), message);
  assertEquals(parseMessage(`[    1.0] noise ${line}`), message);
  assertEquals(parseMessage(line.slice(0, -4)), undefined);
  assertEquals(parseMessage("[    1.0] Kernel panic"), undefined);
});
