import type { TorporError } from "@torpor/errors";

/** What a pause does with a connection to a port. */
export interface PortUse {
  /** A request is under way: a pause waits for its answer. Otherwise it is cut at once: nobody knows when it will end. */
  finite: boolean;
}

/** The connections to the ports of one run of a VM. */
export class PortConnections {
  readonly #open = new Map<AbortController, PortUse>();
  #quiet = Promise.withResolvers<void>();

  get size(): number {
    return this.#open.size;
  }

  /** Adds one, before it is connected; dispose it when it is over. Its signal aborts with the reason why it is cut. */
  add(use: PortUse): { signal: AbortSignal } & Disposable {
    const controller = new AbortController();
    this.#open.set(controller, use);
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        this.#open.delete(controller);
        if (this.#open.size === 0) this.#quiet.resolve();
      },
    };
  }

  /**
   * Ends all connections: cuts those that are no requests, waits for the others, and cuts what is left. Who calls it keeps
   * new ones from coming.
   * @param reason what the ends of those that are cut see.
   * @param waitMs for requests under way, milliseconds.
   * @param signal ends the wait.
   * @returns how many were cut.
   */
  async drain(reason: TorporError, waitMs: number, signal: AbortSignal): Promise<number> {
    const endless = this.#cut(reason, ({ finite }) => !finite);
    if (this.#open.size > 0) await this.#wait(waitMs, signal);
    return endless + this.#cut(reason, () => true);
  }

  #cut(reason: TorporError, which: (use: PortUse) => boolean): number {
    const cut = [...this.#open].filter(([, use]) => which(use));
    for (const [controller] of cut) {
      this.#open.delete(controller);
      controller.abort(reason);
    }
    return cut.length;
  }

  async #wait(waitMs: number, signal: AbortSignal): Promise<void> {
    this.#quiet = Promise.withResolvers();
    const timer = setTimeout(this.#quiet.resolve, waitMs);
    signal.addEventListener("abort", () => this.#quiet.resolve(), { once: true });
    if (signal.aborted) this.#quiet.resolve();
    await this.#quiet.promise;
    clearTimeout(timer);
  }
}
