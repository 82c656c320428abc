import { TorporError } from "@torpor/errors";
import type { Database } from "./database.ts";
import { getOperation, type OperationRow } from "./operations.ts";

/** A notification can be lost with its connection, so the row is looked at again after this time, in ms. */
const RECHECK_MS = 1_000;

/** Waits for operations that another process carries out, by PostgreSQL's LISTEN. */
export class OperationFeed implements AsyncDisposable {
  #waiting = new Map<string, Set<() => void>>();
  #listening: Promise<{ unlisten(): Promise<void> }> | undefined;

  constructor(private readonly database: Database) {}

  /**
   * Waits until the operation has ended.
   * @param timeoutMs at most this long.
   * @param unownedMs at most this long while nobody carries it out.
   * @throws `deadline_exceeded`; `unavailable` when nobody carries it out, or the database is away; `operation_not_found`.
   */
  async waitForOperation(id: string, timeoutMs: number, unownedMs: number): Promise<OperationRow> {
    const until = performance.now() + timeoutMs;
    let unownedUntil = Infinity;
    await this.#listen();
    for (;;) {
      // Registered before the row is read: a notification between the two is not lost.
      using bell = this.#bell(id);
      const operation = await getOperation(this.database.sql, id);
      if (!operation) throw new TorporError("operation_not_found", `no operation ${id}`);
      if (operation.state !== "running") return operation;
      const now = performance.now();
      unownedUntil = operation.owner === null ? Math.min(unownedUntil, now + unownedMs) : Infinity;
      if (now >= Math.min(until, unownedUntil)) throw stillOpen(operation);
      await bell.rung(Math.min(until - now, unownedUntil - now, RECHECK_MS));
    }
  }

  #listen(): Promise<unknown> {
    this.#listening ??= this.database.sql.listen("operation_finished", (id) => {
      for (const ring of this.#waiting.get(id) ?? []) ring();
    }).catch((thrown) => {
      this.#listening = undefined;
      throw thrown;
    });
    return this.#listening;
  }

  #bell(id: string): Disposable & { rung(timeoutMs: number): Promise<void> } {
    const { promise, resolve } = Promise.withResolvers<void>();
    const rings = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, rings.add(resolve));
    let timer: ReturnType<typeof setTimeout> | undefined;
    return {
      rung: (timeoutMs) => {
        timer = setTimeout(resolve, timeoutMs);
        return promise;
      },
      [Symbol.dispose]: () => {
        clearTimeout(timer);
        rings.delete(resolve);
        if (rings.size === 0) this.#waiting.delete(id);
      },
    };
  }

  /** Stops to listen. */
  async [Symbol.asyncDispose](): Promise<void> {
    const listening = this.#listening;
    if (listening) await (await listening).unlisten();
  }
}

function stillOpen({ id, kind, owner }: OperationRow): TorporError {
  const message = owner === null ? "has no known outcome yet; it is retried" : "still runs";
  return new TorporError(owner === null ? "unavailable" : "deadline_exceeded", `operation ${id} (${kind}) ${message}`, {
    retryAfterSec: 5,
  });
}
