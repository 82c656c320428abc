import { type AuditRow, type Database, insertAuditRows } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { currentTraceId, log, untraced } from "@torpor/telemetry";
import type { Caller } from "../keys/caller.ts";

/** A kill of the process loses the entries of this time at most, ms. What operations did is in their journal, too. */
const WRITE_AFTER_MS = 200;

/** After a write that failed, ms. */
const RETRY_AFTER_MS = 1_000;

/** Entries that are written at once. */
const BATCH = 1_000;

/** Calls that change something are refused while so many entries wait: none may go unnoticed. */
const MAX_WAITING = 20_000;

/** Keeps who changed what. Entries are written in batches; disposing writes what waits. */
export class AuditLog implements AsyncDisposable {
  #waiting: AuditRow[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();
  #disposed = false;

  constructor(private readonly database: Database) {}

  /** @throws TorporError `unavailable` while the database has not taken what waits to be written. */
  requireRoom(): void {
    if (this.#waiting.length < MAX_WAITING) return;
    throw new TorporError("unavailable", "the audit log cannot be written", { retryAfterSec: 1 });
  }

  /** Keeps one call. Only its name, its target and its outcome: never what it carried. */
  record(caller: Caller, { action, code, address }: { action: string; code: string; address: string }): void {
    this.#waiting.push({
      id: caller.call.requestId,
      teamId: caller.teamId,
      keyId: caller.keyId,
      action,
      target: printable(caller.call.target),
      code,
      traceId: currentTraceId() ?? "",
      address: printable(address),
      createdAt: new Date(),
    });
    this.#writeAfter(WRITE_AFTER_MS);
  }

  #writeAfter(ms: number): void {
    if (this.#disposed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#writing = untraced(() => this.#write());
    }, ms);
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.slice(0, BATCH);
        await insertAuditRows(this.database.sql, batch);
        // Only now: a batch that failed is written again, and rows that are there already are left as they are.
        this.#waiting.splice(0, batch.length);
      }
    } catch (thrown) {
      log("warn", "audit_not_written", { waiting: this.#waiting.length }, thrown);
      this.#writeAfter(RETRY_AFTER_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    clearTimeout(this.#timer);
    await this.#writing;
    await this.#write();
    if (this.#waiting.length > 0) log("error", "audit_entries_lost", { entries: this.#waiting.length });
  }
}

/** Paths can name anything; PostgreSQL does not take all of it, and nobody wants to read it. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 200);
}
