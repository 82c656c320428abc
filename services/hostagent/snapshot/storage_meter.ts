import { log } from "@torpor/telemetry";
import type { Layout } from "../storage/layout.ts";
import { measureStored, type StoredBytes, type Storer } from "./stored_bytes.ts";

/** Somebody who is told what is stored for it. */
export interface Metered extends Storer {
  take(stored: StoredBytes): void;
}

/** After a change, and between two measurements at least, ms. */
const DELAY_MS = 5_000;
/** Live disks grow without anybody saying so, ms. */
const INTERVAL_MS = 60_000;
/** Measuring takes at most so much of the time. */
const SHARE_OF_TIME = 1 / 20;

/** Keeps what is stored for each sandbox and kept snapshot of a host known, a few seconds late. */
export class StorageMeter implements AsyncDisposable {
  readonly #layout: Layout;
  readonly #everybody: () => Metered[];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #dueAtMs = Infinity;
  #notBeforeMs = 0;
  #started = false;
  #stopped = false;
  #last: Promise<void> = Promise.resolve();

  constructor(layout: Layout, everybody: () => Metered[]) {
    this.#layout = layout;
    this.#everybody = everybody;
  }

  /** Measures in the background from now on. */
  start(): void {
    this.#started = true;
    this.soon();
  }

  /** Something has changed. */
  soon(): void {
    this.#arm(DELAY_MS);
  }

  /** Measures now, after the measurement that is under way. @throws Deno.errors. */
  async measure(): Promise<void> {
    const run = this.#last.then(async () => {
      const began = performance.now();
      const everybody = this.#everybody();
      const stored = await measureStored(this.#layout, everybody);
      everybody.forEach((one, index) => one.take(stored[index]!));
      this.#notBeforeMs = performance.now() + (performance.now() - began) / SHARE_OF_TIME;
    });
    this.#last = run.catch(() => {});
    await run;
  }

  #arm(delayMs: number): void {
    if (!this.#started || this.#stopped) return;
    const dueAtMs = Math.max(performance.now() + delayMs, this.#notBeforeMs);
    if (dueAtMs >= this.#dueAtMs) return;
    clearTimeout(this.#timer);
    this.#dueAtMs = dueAtMs;
    this.#timer = setTimeout(() => this.#background(), dueAtMs - performance.now());
  }

  async #background(): Promise<void> {
    this.#dueAtMs = Infinity;
    try {
      await this.measure();
    } catch (error) {
      log("error", "storage_not_measured", {}, error);
    } finally {
      this.#arm(INTERVAL_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#last;
  }
}
