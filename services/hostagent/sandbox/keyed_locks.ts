/** What holds one key's lock; dispose it to let the next waiter in. Disposing twice is harmless. */
export type HeldLock = Disposable;

interface Entry {
  /** In order of arrival; the holder is not among them. */
  waiters: ((lock: HeldLock) => void)[];
}

/**
 * One lock per sandbox id, held around every lifecycle operation. Waiters get it in the order in which they came. An entry
 * exists only while somebody holds it, so that the map follows the operations in flight and not the ids ever seen.
 */
export class KeyedLocks {
  readonly #entries = new Map<string, Entry>();

  /** How many keys are held now. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Waits for the lock of `key`.
   * @throws the signal's reason when it aborts first; the place in the queue is given up.
   */
  async acquire(key: string, signal?: AbortSignal): Promise<HeldLock> {
    signal?.throwIfAborted();
    const held = this.tryAcquire(key);
    if (held) return held;
    const waiters = this.#entries.get(key)!.waiters;
    const turn = Promise.withResolvers<HeldLock>();
    waiters.push(turn.resolve);
    const giveUp = () => {
      const place = waiters.indexOf(turn.resolve);
      // Not in the queue any more: the lock was handed over already, and the caller gets it.
      if (place < 0) return;
      waiters.splice(place, 1);
      turn.reject(signal?.reason);
    };
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      return await turn.promise;
    } finally {
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /** The lock of `key` if nobody holds it. */
  tryAcquire(key: string): HeldLock | undefined {
    if (this.#entries.has(key)) return undefined;
    const entry: Entry = { waiters: [] };
    this.#entries.set(key, entry);
    return this.#hold(key, entry);
  }

  /** Runs `work` while holding the lock of `key`. */
  async with<T>(key: string, work: () => Promise<T>): Promise<T> {
    using _lock = await this.acquire(key);
    return await work();
  }

  #hold(key: string, entry: Entry): HeldLock {
    let released = false;
    return {
      [Symbol.dispose]: () => {
        if (released) return;
        released = true;
        const next = entry.waiters.shift();
        if (next) next(this.#hold(key, entry));
        else this.#entries.delete(key);
      },
    };
  }
}
