import { asTorporError, TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import { type Database, named } from "./database.ts";
import { type ForkRow, getFork } from "./forks.ts";
import { getOperation, notifyFinished, type OperationRow } from "./operations.ts";

/** A notification can be lost with its connection, so the row is looked at again after this time, in ms. */
const RECHECK_MS = 1_000;

/** Steps are not told: who watches looks again after this time, in ms. */
const WATCH_MS = 250;

/** Ends are told together with those of so much time, ms. */
const TELL_MS = 5;

/** Waits for operations that another process carries out, by PostgreSQL's LISTEN. */
export class OperationFeed implements AsyncDisposable {
  #waiting = new Map<string, Set<() => void>>();
  #listening: Promise<{ unlisten(): Promise<void> }> | undefined;
  #untold: string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #telling: Promise<void> = Promise.resolve();

  constructor(private readonly database: Database) {}

  /**
   * Waits until the operation has ended.
   * @param timeoutMs at most this long.
   * @param unownedMs at most this long while nobody carries it out.
   * @throws `deadline_exceeded`; `unavailable` when nobody carries it out, or the database is away; `operation_not_found`.
   */
  async waitForOperation(id: string, timeoutMs: number, unownedMs: number): Promise<OperationRow> {
    return await this.#wait(id, () => getOperation(this.database.sql, id), timeoutMs, unownedMs);
  }

  /** Waits until the fork of this operation has ended; as {@linkcode waitForOperation}. */
  async waitForFork(operationId: string, timeoutMs: number, unownedMs: number): Promise<ForkRow> {
    return await this.#wait(operationId, () => getFork(this.database.sql, operationId), timeoutMs, unownedMs);
  }

  /**
   * An operation, or the fork that it stands for, as it is now and again whenever it has changed, until it has ended.
   * @param read gives it. @param signal ends the watching; what it gave by then stays true.
   */
  async *watch<Row extends Pick<OperationRow, "state" | "step">>(
    id: string,
    read: () => Promise<Row>,
    signal: AbortSignal,
  ): AsyncGenerator<Row> {
    await this.#listen();
    let last: Row | undefined;
    while (!signal.aborted) {
      using bell = this.#bell(id);
      const row = await read();
      if (row.state !== last?.state || row.step !== last.step) yield row;
      if (row.state !== "running") return;
      last = row;
      await bell.rung(WATCH_MS, signal);
    }
  }

  async #wait<Row extends OperationRow | ForkRow>(
    id: string,
    read: () => Promise<Row | undefined>,
    timeoutMs: number,
    unownedMs: number,
  ): Promise<Row> {
    const until = performance.now() + timeoutMs;
    let unownedUntil = Infinity;
    await this.#listen();
    for (;;) {
      // Registered before the row is read: a notification between the two is not lost.
      using bell = this.#bell(id);
      const operation = await read();
      if (!operation) throw new TorporError("operation_not_found", `no operation ${id}`);
      if (operation.state !== "running") return operation;
      const now = performance.now();
      unownedUntil = operation.owner === null ? Math.min(unownedUntil, now + unownedMs) : Infinity;
      if (now >= Math.min(until, unownedUntil)) throw stillOpen(id, operation);
      await bell.rung(Math.min(until - now, unownedUntil - now, RECHECK_MS));
    }
  }

  #listen(): Promise<unknown> {
    this.#listening ??= named("listen", () =>
      this.database.sql.listen("operation_finished", (id) => {
        for (const ring of this.#waiting.get(id) ?? []) ring();
      })).catch((thrown) => {
        this.#listening = undefined;
        throw thrown;
      });
    return this.#listening;
  }

  #bell(id: string): Disposable & { rung(timeoutMs: number, signal?: AbortSignal): Promise<void> } {
    const { promise, resolve } = Promise.withResolvers<void>();
    const rings = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, rings.add(resolve));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const disposed = new AbortController();
    return {
      rung: (timeoutMs, signal) => {
        timer = setTimeout(resolve, timeoutMs);
        signal?.addEventListener("abort", () => resolve(), { once: true, signal: disposed.signal });
        return promise;
      },
      [Symbol.dispose]: () => {
        disposed.abort();
        clearTimeout(timer);
        rings.delete(resolve);
        if (rings.size === 0) this.#waiting.delete(id);
      },
    };
  }

  /**
   * Tells those who wait for an operation that it has ended; soon, and not when this process dies first: they look again
   * by themselves. Apart from the transaction that ends it, because PostgreSQL lets only one transaction that notifies
   * commit at a time.
   */
  tell(id: string): void {
    this.#untold.push(id);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#telling = this.#tellAll();
    }, TELL_MS);
  }

  async #tellAll(): Promise<void> {
    const ids = this.#untold.splice(0);
    if (ids.length === 0) return;
    try {
      await notifyFinished(this.database.sql, ids);
    } catch (thrown) {
      log("warn", "ends_not_told", { operations: ids.length }, thrown);
    }
  }

  /** Tells what is left to tell, and stops to listen. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    await this.#telling;
    await this.#tellAll();
    const listening = this.#listening;
    if (!listening) return;
    try {
      await named("unlisten", async () => await (await listening).unlisten());
    } catch (thrown) {
      // A connection that is lost does not listen.
      if (asTorporError(thrown).code !== "unavailable") throw thrown;
    }
  }
}

function stillOpen(id: string, row: OperationRow | ForkRow): TorporError {
  const { owner } = row;
  const kind = "kind" in row ? row.kind : "fork";
  const message = owner === null ? "has no known outcome yet; it is retried" : "still runs";
  return new TorporError(owner === null ? "unavailable" : "deadline_exceeded", `operation ${id} (${kind}) ${message}`, {
    retryAfterSec: 5,
  });
}
