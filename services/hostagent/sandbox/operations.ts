import { asTorporError, isErrorCode, TorporError } from "@torpor/errors";
import { timed } from "@torpor/telemetry";
import type { OperationKind, OperationRecord } from "./record.ts";

/** Finished operations that are remembered in memory; a sandbox's last one is in its record as well. */
const REMEMBERED = 4096;

/** How an operation stands. */
export interface OperationStatus {
  sandboxId: string;
  kind: OperationKind;
  state: "running" | "succeeded" | "failed";
  error?: TorporError;
}

interface Entry extends OperationStatus {
  result: Promise<unknown>;
}

/**
 * The operations that this agent has begun since it started. A repeated call with the same id joins the one that runs, or
 * gets its result.
 */
export class Operations {
  readonly #entries = new Map<string, Entry>();

  /**
   * Runs `work` once for `operationId`.
   * @throws TorporError `invalid_argument` when the id belongs to another operation, and whatever `work` throws.
   */
  async run<T>(operationId: string, sandboxId: string, kind: OperationKind, work: () => Promise<T>): Promise<T> {
    const known = this.#entries.get(operationId);
    if (known) {
      if (known.sandboxId !== sandboxId || known.kind !== kind) {
        throw new TorporError("invalid_argument", "operation_id belongs to another operation", {
          field: "operation_id",
        });
      }
      return await known.result as T;
    }
    const entry: Entry = { sandboxId, kind, state: "running", result: Promise.resolve() };
    const result = this.#settle(entry, timed("torpor.host.operation.duration", { "torpor.operation": kind }, work));
    entry.result = result;
    // The first caller may have gone: its failure is kept for GetOperation.
    result.catch(() => {});
    this.#entries.set(operationId, entry);
    this.#forgetOldest();
    return await result;
  }

  /** How an operation stands; undefined when this agent has not begun it since its start. */
  status(operationId: string): OperationStatus | undefined {
    return this.#entries.get(operationId);
  }

  /** Resolves when nothing is running. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#entries.values()].map((entry) => entry.result));
  }

  async #settle<T>(entry: Entry, work: Promise<T>): Promise<T> {
    try {
      const result = await work;
      entry.state = "succeeded";
      return result;
    } catch (thrown) {
      entry.state = "failed";
      entry.error = asTorporError(thrown);
      throw thrown;
    }
  }

  #forgetOldest(): void {
    for (const [id, entry] of this.#entries) {
      if (this.#entries.size <= REMEMBERED) return;
      if (entry.state !== "running") this.#entries.delete(id);
    }
  }
}

/** The error of a failed operation as its record keeps it. */
export function recordedError(record: OperationRecord): TorporError {
  const code = isErrorCode(record.error_code) ? record.error_code : "internal";
  return new TorporError(code, record.error_message);
}
