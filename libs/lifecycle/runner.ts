import {
  type Database,
  disownOperation,
  getKeptSnapshot,
  getSandboxOfAnyTeam,
  OperationFeed,
  type OperationRow,
  type SandboxRow,
} from "@torpor/db";
import { asTorporError, isErrorCode, TorporError } from "@torpor/errors";
import { log, withSpan } from "@torpor/telemetry";
import { finishAtOnce, recordPlacementAtOnce } from "./at_once.ts";
import { allowedMs } from "./deadlines.ts";
import { carryOut } from "./host_calls.ts";
import type { HostClient, SchedulerClient } from "./host_clients.ts";
import { finishOperation, type Held, type Outcome, recordPlacement } from "./journal.ts";
import { timedOperation } from "./operation_metrics.ts";
import { hostClientOf } from "./removed_host.ts";
import { stateAroundSnapshot } from "./states.ts";

/** What carries operations out. */
export interface RunnerOptions {
  database: Database;
  scheduler: SchedulerClient;
  /** The client of the host agent at an address. */
  hosts: (address: string) => HostClient;
  /** How long one waits for an operation that only the reconciler can end, ms. Default 15,000: three passes. */
  unownedWaitMs?: number;
}

/** How long the end of an operation is tried to be written while the database is away, ms. */
const FINISH_RETRY_MS = 30_000;

/** After its deadline an operation is settled by the reconciler; who waits for it waits that much longer, ms. */
const SETTLE_MARGIN_MS = 15_000;

/** How long a process that stops waits for its operations, ms; the reconciler finishes what is left. */
const DRAIN_MS = 8_000;

/** Carries operations out, apart from the requests that began them, and waits for those of other processes. */
export class OperationRunner {
  #running = new Map<string, Promise<SandboxRow>>();
  readonly feed: OperationFeed;

  constructor(private readonly options: RunnerOptions) {
    this.feed = new OperationFeed(options.database);
  }

  /**
   * Carries a begun operation out. It goes on whether or not anybody awaits the promise.
   * @param prepare runs before the host is called; when it throws, the operation fails with that.
   * @returns the sandbox at rest; rejects with why the operation failed, or with an ambiguous code when that is unknown
   * and the reconciler goes on.
   */
  run(held: Held, prepare?: () => Promise<void>): Promise<SandboxRow> {
    const { operation } = held;
    const attributes = { "torpor.sandbox_id": held.sandbox.id, "torpor.operation_id": operation.id };
    const work = () => withSpan(`lifecycle.${operation.kind}`, attributes, () => this.#run(held, prepare));
    const running = timedOperation(held, work)
      .finally(() => this.#running.delete(operation.id));
    this.#running.set(operation.id, running);
    // The failure is in the journal and in the span; nobody may be waiting here.
    running.catch(() => {});
    return running;
  }

  /** Waits for an operation of any process. Rejects as {@linkcode run} does. */
  async waitFor(operation: OperationRow): Promise<SandboxRow> {
    const running = this.#running.get(operation.id);
    if (running) return await running;
    const left = allowedMs(operation) + SETTLE_MARGIN_MS;
    const ended = await this.feed.waitForOperation(operation.id, left, this.options.unownedWaitMs ?? 15_000);
    if (ended.state === "failed") throw operationError(ended);
    const sandbox = await getSandboxOfAnyTeam(this.options.database.sql, operation.sandboxId);
    if (!sandbox) throw new TorporError("sandbox_not_found", `no sandbox ${operation.sandboxId}`);
    return sandbox;
  }

  async #run(held: Held, prepare?: () => Promise<void>): Promise<SandboxRow> {
    try {
      const { outcome, last } = await this.#carryOut(held, prepare);
      const finished = await this.#finish(last, outcome);
      // Who began it sees how it ended without asking again.
      Object.assign(held.operation, finished.operation);
      if (finished.operation.state === "failed") throw outcome.error?.thrown ?? operationError(finished.operation);
      return finished.sandbox;
    } catch (thrown) {
      // Without effect on a closed operation. An open one has an unknown outcome: the reconciler asks the host.
      await disownOperation(this.options.database.sql, held.operation.id).catch((cause) => {
        log("warn", "operation_not_disowned", { operation_id: held.operation.id }, cause);
      });
      throw thrown;
    }
  }

  /** @returns what it has come to, and the operation as it was when the host was called. */
  async #carryOut(held: Held, prepare?: () => Promise<void>): Promise<{ outcome: Outcome; last: Held }> {
    const { kind } = held.operation;
    if (kind === "delete" && held.sandbox.hostId === null) return { outcome: { path: ["deleted"] }, last: held };
    let last = held;
    try {
      await prepare?.();
      if (kind === "create" || kind === "resume") last = await this.#place(held);
    } catch (thrown) {
      return { outcome: this.#unplaced(held, asTorporError(thrown)), last };
    }
    const { database, hosts } = this.options;
    const { hostAddress, sandbox } = last;
    const host = hostAddress ? hosts(hostAddress) : await hostClientOf(database, hosts, sandbox.hostId!);
    return { outcome: await carryOut(host, last), last };
  }

  /** A resume, and a create from a snapshot, are placed on the host that has the snapshot; another create on any. */
  async #place(held: Held): Promise<Held> {
    const { sandbox, operation } = held;
    const { hostId, address } = await this.options.scheduler.place({
      sandboxId: sandbox.id,
      resources: { vcpus: sandbox.vcpus, memoryMb: BigInt(sandbox.memoryMb), diskMb: BigInt(sandbox.diskSizeMb) },
      hostLabels: sandbox.hostLabels,
      requiredCapabilities: sandbox.requiredCapabilities,
      eligibleHostIds: operation.kind === "resume" ? [sandbox.hostId!] : await this.#hostsWithSource(sandbox),
    });
    try {
      const { database } = this.options;
      const placed = await recordPlacementAtOnce(database, held, hostId) ??
        await recordPlacement(database, held, hostId);
      return { ...placed, hostAddress: address };
    } catch (thrown) {
      // Unless it is given back now, the reservation blocks others until it expires.
      await this.options.scheduler.release({ sandboxId: sandbox.id }).catch((cause) => {
        log("warn", "reservation_not_released", { sandbox_id: sandbox.id }, cause);
      });
      throw thrown;
    }
  }

  async #hostsWithSource({ sourceSnapshotId }: SandboxRow): Promise<string[]> {
    if (sourceSnapshotId === null) return [];
    const snapshot = await getKeptSnapshot(this.options.database.sql, sourceSnapshotId);
    if (!snapshot) throw new TorporError("snapshot_not_found", `no snapshot ${sourceSnapshotId}`);
    return [snapshot.hostId];
  }

  #unplaced({ sandbox, operation }: Held, failure: TorporError): Outcome {
    // A delete took this operation's place and closed it.
    if (failure.code === "conflict") throw failure;
    const error = { code: failure.code, message: failure.message, thrown: failure };
    if (operation.kind === "resume") return { path: ["paused"], error };
    if (operation.kind === "snapshot") return { path: [stateAroundSnapshot(sandbox)], error };
    return { path: ["failed"], changes: { reason: failure.code }, error };
  }

  async #finish(held: Held, outcome: Outcome): Promise<Held> {
    const { operation } = held;
    const until = performance.now() + FINISH_RETRY_MS;
    for (let delayMs = 100;; delayMs = Math.min(1_000, delayMs * 2)) {
      try {
        const finished = await finishAtOnce(this.options.database, held, outcome);
        if (!finished) return await finishOperation(this.options.database, operation, outcome);
        this.feed.tell(operation.id);
        return finished;
      } catch (thrown) {
        if (asTorporError(thrown).code !== "unavailable" || performance.now() > until) throw thrown;
        log("warn", "operation_end_delayed", { operation_id: operation.id }, thrown);
        await new Promise((resolve) => setTimeout(resolve, delayMs));
      }
    }
  }

  /** Waits for the operations that this process carries out and for `others`, at most 8 s, and stops to listen. */
  async drain(others: Promise<void>[] = []): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const waited = new Promise<void>((resolve) => timer = setTimeout(resolve, DRAIN_MS));
    await Promise.race([Promise.allSettled([...others, ...this.#running.values()]), waited]);
    clearTimeout(timer);
    if (this.#running.size > 0) log("warn", "operations_left_to_reconciler", { operations: this.#running.size });
    await this.feed[Symbol.asyncDispose]();
  }
}

/** Why a failed operation failed, as the error that it was. */
export function operationError(operation: OperationRow): TorporError {
  const code = isErrorCode(operation.errorCode) ? operation.errorCode : "internal";
  return new TorporError(code, operation.errorMessage || `${operation.kind} failed`);
}
