import { type Database, touchSandboxes } from "@torpor/db";
import { log } from "@torpor/telemetry";

/** Activity is written at most this often, ms: a busy proxy would else write a row per request. */
const FLUSH_MS = 1_000;

/** Collects activity of sandboxes and writes it in batches. Dispose it to write what is left. */
export class ActivityBatch implements AsyncDisposable {
  /** When, by this process's monotonic clock. */
  #seen = new Map<string, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(private readonly database: Database) {}

  /** Notes that a sandbox is in use now. */
  touch(sandboxId: string): void {
    this.#seen.set(sandboxId, performance.now());
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#flushing = this.#flush();
    }, FLUSH_MS);
  }

  async #flush(): Promise<void> {
    const seen = this.#seen;
    this.#seen = new Map();
    try {
      const now = performance.now();
      await touchSandboxes(this.database.sql, new Map([...seen].map(([id, at]) => [id, now - at])));
    } catch (thrown) {
      // The host agent keeps the exact times and the reconciler copies them: a lost batch is repaired by itself.
      log("warn", "activity_not_written", { sandboxes: seen.size }, thrown);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#flushing;
    await this.#flush();
  }
}
