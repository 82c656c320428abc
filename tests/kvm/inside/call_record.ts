/** Remembers which calls wait for their answers, so that a scenario that does not end can be understood. */
export class CallRecord {
  readonly #waiting = new Map<number, { name: string; sinceMs: number }>();
  #nextId = 0;

  /** The same client; each call is written to stderr and remembered until it is answered. */
  watch<Client extends object>(client: Client): Client {
    const watched = Object.entries(client).map(([name, method]) => [name, this.#watchMethod(name, method)]);
    return Object.fromEntries(watched) as Client;
  }

  /** The calls without an answer, in words; empty when there is none. */
  describe(): string {
    const now = performance.now();
    const waits = [...this.#waiting.values()].map(({ name, sinceMs }) => `${name} for ${Math.round(now - sinceMs)} ms`);
    return waits.length > 0 ? `waiting for ${waits.join(", ")}` : "";
  }

  #watchMethod(name: string, method: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
    return (...args) => {
      const id = this.#nextId++;
      const sinceMs = performance.now();
      this.#waiting.set(id, { name, sinceMs });
      const ended = () => {
        this.#waiting.delete(id);
        console.error(`${new Date().toISOString()} ${name} ${Math.round(performance.now() - sinceMs)} ms`);
      };
      const result = method(...args);
      if (result instanceof Promise) return result.finally(ended);
      ended();
      return result;
    };
  }
}
