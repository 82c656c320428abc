import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import { idleAtMs, IdleTimers } from "./idle_timers.ts";
import { Sandbox } from "./sandbox.ts";
import type { RunningVm } from "./running_vm.ts";
import type { SandboxRecord } from "./record.ts";

/** A sandbox that seems to run; the timers look at nothing else. */
function sandboxWith(timeoutSec: number): Sandbox {
  const record = { sandbox_id: "s".repeat(20), timeout_sec: timeoutSec, last_active_at_ms: Date.now() };
  const sandbox = new Sandbox(record as SandboxRecord);
  sandbox.vm = {} as RunningVm;
  return sandbox;
}

Deno.test("a sandbox becomes idle a timeout after its last use, not while it is used", () => {
  const sandbox = sandboxWith(10);
  assertEquals(idleAtMs(sandbox), sandbox.lastActiveAtMs + 10_000);
  sandbox.uses = 1;
  assertEquals(idleAtMs(sandbox), Infinity);
  assertEquals(idleAtMs(sandboxWith(0)), Infinity);
});

Deno.test("the timer fires when the time is over, later when there was activity meanwhile", async () => {
  const idle = Promise.withResolvers<void>();
  const timers = new IdleTimers(() => idle.resolve());
  const sandbox = sandboxWith(0.03);
  const begin = performance.now();
  timers.start(sandbox);
  sandbox.lastActiveAtMs += 60;
  await idle.promise;
  assertGreaterOrEqual(performance.now() - begin, 80);
});

Deno.test("a use that ends without a sign still lets the timer fire", async () => {
  const idle = Promise.withResolvers<void>();
  const timers = new IdleTimers(() => idle.resolve());
  const sandbox = sandboxWith(0.02);
  sandbox.uses = 1;
  timers.start(sandbox);
  sandbox.uses = 0;
  await idle.promise;
});

Deno.test("without a timeout or a VM there is no timer", () => {
  const timers = new IdleTimers(() => {});
  timers.start(sandboxWith(0));
  const paused = sandboxWith(1);
  paused.vm = undefined;
  timers.start(paused);
  const stopped = sandboxWith(1);
  timers.start(stopped);
  timers.stop(stopped);
  timers.start(stopped);
  // The sanitizer would report a timer that is left.
  timers.stopAll();
});

Deno.test("a sandbox whose pause has failed is idle already, but not paused again at once", async () => {
  const idle = Promise.withResolvers<void>();
  const timers = new IdleTimers(() => idle.resolve());
  const sandbox = sandboxWith(0.001);
  sandbox.lastActiveAtMs -= 1000;
  const begin = performance.now();
  timers.start(sandbox, 60);
  await idle.promise;
  assertGreaterOrEqual(performance.now() - begin, 59);
});
