import { assertEquals, assertGreaterOrEqual, assertLess } from "@std/assert";
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

Deno.test("a wall clock that is set on or back neither ends nor prolongs a sandbox's rest", async () => {
  const real = Date.now;
  using _clock = { [Symbol.dispose]: () => void (Date.now = real) };
  for (const hours of [1, -1]) {
    Date.now = real;
    const paused: string[] = [];
    const idle = Promise.withResolvers<void>();
    const timers = new IdleTimers(() => {
      paused.push("paused");
      idle.resolve();
    });
    const sandbox = sandboxWith(0.1);
    sandbox.touch();
    const begin = performance.now();
    timers.start(sandbox);
    Date.now = () => real() + hours * 3_600_000;
    assertLess(sandbox.unusedForMs, 100);
    await idle.promise;
    const tookMs = performance.now() - begin;
    assertGreaterOrEqual(tookMs, 99);
    assertLess(tookMs, 60_000);
    // A record of the future, as an agent finds it that starts after the clock was set back.
    const record = { ...sandbox.record, last_active_at_ms: Date.now() + 3_600_000 };
    assertLess(new Sandbox(record).unusedForMs, 1_000);
  }
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
