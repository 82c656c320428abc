import type { Sandbox } from "./sandbox.ts";

/** Longer delays than this overflow the timers of the runtime; they are simply checked again. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** When the sandbox has been unused for its timeout, by `performance.now()`, or Infinity when it has none or is in use. */
export function idleAtMs(sandbox: Sandbox): number {
  const timeoutMs = sandbox.record.timeout_sec * 1000;
  if (timeoutMs === 0 || sandbox.uses > 0) return Infinity;
  return sandbox.lastActiveAtMs + timeoutMs;
}

/** One timer per running sandbox that has a timeout. Activity only moves a timestamp; the timer looks at it when it fires. */
export class IdleTimers {
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
  readonly #onIdle: (sandbox: Sandbox) => void;

  /** @param onIdle called once when a sandbox has become idle; `start` arms it again. */
  constructor(onIdle: (sandbox: Sandbox) => void) {
    this.#onIdle = onIdle;
  }

  /**
   * Arms the timer of a sandbox, or disarms it when it does not run or has no timeout.
   * @param leastMs it does not fire before.
   */
  start(sandbox: Sandbox, leastMs = 0): void {
    this.stop(sandbox);
    const timeoutMs = sandbox.record.timeout_sec * 1000;
    if (timeoutMs === 0 || !sandbox.vm) return;
    const now = performance.now();
    const dueMs = Math.min(idleAtMs(sandbox), now + timeoutMs) - now;
    const delayMs = Math.min(Math.max(dueMs, leastMs), MAX_DELAY_MS);
    this.#timers.set(sandbox.id, setTimeout(() => this.#check(sandbox), delayMs));
  }

  stop(sandbox: Sandbox): void {
    clearTimeout(this.#timers.get(sandbox.id));
    this.#timers.delete(sandbox.id);
  }

  stopAll(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #check(sandbox: Sandbox): void {
    if (idleAtMs(sandbox) <= performance.now()) this.#onIdle(sandbox);
    else this.start(sandbox);
  }
}
