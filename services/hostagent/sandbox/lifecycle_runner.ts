import { asTorporError, TorporError } from "@torpor/errors";
import { newId, requireId } from "@torpor/ids";
import { withSpan } from "@torpor/telemetry";
import type { LifecycleCall } from "./calls.ts";
import type { HostContext } from "./context.ts";
import { hostError } from "./host_error.ts";
import type { IdleTimers } from "./idle_timers.ts";
import type { KeyedLocks } from "./keyed_locks.ts";
import { Operations, recordedError } from "./operations.ts";
import type { OperationKind, OperationRecord } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";
import type { SandboxTable } from "./sandbox_table.ts";
import { saveOutcome } from "./save_outcome.ts";
import { settleLostVm } from "./settle_lost_vm.ts";

/** Work under the sandbox's lock; the signal asks it to stop where that is safe. */
type Work<T> = (sandbox: Sandbox, signal: AbortSignal, operation: OperationRecord) => Promise<T>;

/** What lifecycle operations have in common: once per id, one at a time per sandbox, fenced, noted in the record. */
export class LifecycleRunner {
  readonly #context: HostContext;
  readonly #sandboxes: SandboxTable;
  readonly #locks: KeyedLocks;
  readonly #idle: IdleTimers;
  readonly #operations = new Operations();
  #closing = false;

  constructor(context: HostContext, sandboxes: SandboxTable, locks: KeyedLocks, idle: IdleTimers) {
    this.#context = context;
    this.#sandboxes = sandboxes;
    this.#locks = locks;
    this.#idle = idle;
  }

  /** Nothing begins any more but the pauses of the agent's end. */
  get closing(): boolean {
    return this.#closing;
  }

  /** Refuses new operations and waits for those in flight. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#idle.stopAll();
    await this.#operations.idle();
  }

  /**
   * Runs an operation once per id, under the sandbox's lock.
   * @throws TorporError `unavailable` while closing, `invalid_argument`, and whatever `work` throws.
   */
  async operate<T>(
    kind: OperationKind,
    call: LifecycleCall,
    work: (operation: OperationRecord) => Promise<T>,
  ): Promise<T> {
    if (this.#closing && kind !== "auto_pause") {
      throw new TorporError("unavailable", "this host agent is stopping", { retryAfterSec: 1 });
    }
    const operationId = call.operationId || newId();
    const operation: OperationRecord = {
      operation_id: requireId(operationId, "operation_id"),
      kind,
      state: "running",
      error_code: "",
      error_message: "",
      snapshot_id: null,
    };
    const attributes = { "torpor.sandbox_id": call.sandboxId, "torpor.operation_id": operationId };
    return await this.#operations.run(operationId, call.sandboxId, kind, async () => {
      // Delete wins: what is in flight stops as soon as that is safe.
      if (kind === "destroy") this.#sandboxes.find(call.sandboxId)?.interrupt?.abort(destroyed());
      using _lock = await this.#locks.acquire(call.sandboxId);
      using _changed = { [Symbol.dispose]: () => this.#context.collector?.soon() };
      return await withSpan(`sandbox.${kind}`, attributes, () => work(operation));
    });
  }

  /**
   * An operation that changes an existing sandbox and is noted in its record from begin to end.
   * @throws TorporError `sandbox_not_found`, `fenced`, and as {@linkcode LifecycleRunner.operate}.
   */
  async change<T>(kind: OperationKind, call: LifecycleCall, work: Work<T>): Promise<T> {
    return await this.operate(kind, call, async (operation) => {
      const sandbox = this.#sandboxes.get(call.sandboxId);
      const { record } = sandbox;
      const last = record.operation;
      if (last?.operation_id === operation.operation_id && last.state === "failed") throw recordedError(last);
      requireNewest(sandbox, call.version);
      record.version = Math.max(record.version, call.version);
      // The same call, begun before this agent was started.
      if (last?.operation_id === operation.operation_id) operation.snapshot_id = last.snapshot_id;
      record.operation = operation;
      const interrupt = sandbox.interrupt = new AbortController();
      try {
        // A resume is noted together with its VM: before that, nothing has happened that a restart would have to know.
        if (kind !== "resume") await this.#note(sandbox);
        const result = await work(sandbox, interrupt.signal, operation);
        operation.state = "succeeded";
        return result;
      } catch (thrown) {
        await this.#fail(sandbox, operation, thrown);
        throw thrown;
      } finally {
        sandbox.interrupt = undefined;
        if (this.#sandboxes.find(sandbox.id)) {
          await saveOutcome(this.#context.layout, sandbox);
          if (!this.#closing) this.#idle.start(sandbox);
        }
      }
    });
  }

  /** How an operation stands. @throws TorporError `invalid_argument`, `operation_not_found`. */
  operation(sandboxId: string, operationId: string): { state: string; error?: TorporError; sandbox?: Sandbox } {
    const sandbox = this.#sandboxes.find(requireId(sandboxId, "sandbox_id"));
    const status = this.#operations.status(requireId(operationId, "operation_id"));
    if (status && status.sandboxId === sandboxId) return { state: status.state, error: status.error, sandbox };
    const last = sandbox?.record.operation;
    if (last?.operation_id !== operationId) {
      throw new TorporError("operation_not_found", "this host has never begun that operation, or has forgotten it");
    }
    return { state: last.state, error: last.state === "failed" ? recordedError(last) : undefined, sandbox };
  }

  /** @throws TorporError `no_space`, `internal`: without a note nothing must begin. */
  async #note(sandbox: Sandbox): Promise<void> {
    try {
      await sandbox.save(this.#context.layout);
    } catch (thrown) {
      throw hostError(thrown, "internal", "the operation could not be noted");
    }
  }

  async #fail(sandbox: Sandbox, operation: OperationRecord, thrown: unknown): Promise<void> {
    const error = asTorporError(thrown);
    Object.assign(operation, { state: "failed", error_code: error.code, error_message: error.message });
    if (sandbox.vm?.ended) return await settleLostVm(this.#context, sandbox);
    // That no snapshot could be made of it says nothing about the sandbox itself.
    if (operation.kind === "snapshot" || operation.kind === "snapshot_and_destroy") return;
    if (!sandbox.record.reason || sandbox.record.state === "running") sandbox.record.reason = error.code;
  }
}

/** @throws TorporError `fenced` when the caller has been overtaken. */
export function requireNewest(sandbox: Sandbox, version: number): void {
  if (version === 0 || version >= sandbox.record.version) return;
  throw new TorporError("fenced", `version ${version} is older than ${sandbox.record.version}`);
}

function destroyed(): TorporError {
  return new TorporError("canceled", "the sandbox is being deleted");
}
