import { AdvisoryLock, type Database } from "@torpor/db";

/**
 * Shows that this process lives: an advisory lock whose key is written into each operation that the process carries
 * out. PostgreSQL frees it when the process dies, and the reconciler then takes the operations over at once.
 */
export class OperationOwner implements AsyncDisposable {
  #held: { key: bigint; lock: AdvisoryLock } | undefined;
  #acquiring: Promise<bigint> | undefined;

  constructor(private readonly database: Database) {}

  /** The key of this process's lock, taken anew when its connection was lost. @throws `unavailable`. */
  async key(): Promise<bigint> {
    if (this.#held && !this.#held.lock.lost.aborted) return this.#held.key;
    this.#acquiring ??= this.#acquire().finally(() => this.#acquiring = undefined);
    return await this.#acquiring;
  }

  async #acquire(): Promise<bigint> {
    const old = this.#held;
    this.#held = undefined;
    await old?.lock[Symbol.asyncDispose]();
    for (;;) {
      const key = crypto.getRandomValues(new BigInt64Array(1))[0]! & 0x3fff_ffff_ffff_ffffn;
      const lock = await AdvisoryLock.tryAcquire(this.database, key);
      if (!lock) continue;
      this.#held = { key, lock };
      return key;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#acquiring?.catch(() => {});
    await this.#held?.lock[Symbol.asyncDispose]();
    this.#held = undefined;
  }
}
