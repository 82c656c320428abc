import { type Database, disownStrays } from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";

/** Between two looks for what a lost begin has left, ms. */
const LOOK_EVERY_MS = 1_000;

/**
 * For how long, ms. A session whose client is gone can still wait for a lock and then commit: until its statement, and
 * then its silent transaction, are given up (libs/db/database.ts), which together takes 30 s.
 */
const LOOK_FOR_MS = 35_000;

/**
 * Operations whose begin was committed, perhaps, while its answer was lost: nobody carries them out, but their owner, this
 * process, lives, so that the reconciler would leave them alone until their deadline. They are given up by their ids.
 */
export class Strays implements AsyncDisposable {
  /** Operation ids, and when they are forgotten, by the monotonic clock, ms. */
  readonly #lost = new Map<string, number>();
  #looking: Promise<void> | undefined;
  readonly #stopped = Promise.withResolvers<void>();
  #stop = false;

  constructor(private readonly database: Database) {}

  /**
   * Runs `begin`, which writes operations of these ids. When it fails so that they may be there all the same, they are
   * looked for, and those that are there, or appear, belong to nobody then.
   */
  async unlessLost<T>(operationIds: readonly string[], begin: () => Promise<T>): Promise<T> {
    try {
      return await begin();
    } catch (thrown) {
      if (asTorporError(thrown).code === "unavailable") this.#giveUp(operationIds);
      throw thrown;
    }
  }

  #giveUp(operationIds: readonly string[]): void {
    const until = performance.now() + LOOK_FOR_MS;
    for (const id of operationIds) this.#lost.set(id, until);
    this.#looking ??= this.#look().finally(() => this.#looking = undefined);
  }

  async #look(): Promise<void> {
    while (this.#lost.size > 0 && !this.#stop) {
      try {
        for (const id of await disownStrays(this.database.sql, [...this.#lost.keys()])) {
          log("warn", "stray_disowned", { operation_id: id });
          this.#lost.delete(id);
        }
      } catch (thrown) {
        log("warn", "strays_not_disowned", { operations: this.#lost.size }, thrown);
      }
      for (const [id, until] of this.#lost) if (performance.now() > until) this.#lost.delete(id);
      if (this.#lost.size > 0) await this.#pause();
    }
  }

  async #pause(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const waited = new Promise<void>((resolve) => timer = setTimeout(resolve, LOOK_EVERY_MS));
    await Promise.race([waited, this.#stopped.promise]);
    clearTimeout(timer);
  }

  /** Stops looking: the end of the process gives its operations up, too. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop = true;
    this.#stopped.resolve();
    await this.#looking;
  }
}
