import {
  closeFork,
  deleteReservationsWithoutSandbox,
  disownFork,
  type ForkRow,
  getFork,
  getKeptSnapshot,
  getSandboxes,
  getSandboxOfAnyTeam,
  insertFork,
  type KeptSnapshotRow,
  lockFork,
  type OperationRow,
  requireTeamRoom,
  type SandboxRow,
  type SandboxSpec,
  setKeptSnapshotState,
} from "@torpor/db";
import { asTorporError, isErrorCode, TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { log, timed, withSpan } from "@torpor/telemetry";
import { lockSnapshotSource } from "./begin_verb.ts";
import { allowedMs, operationDeadlineMs } from "./deadlines.ts";
import { requestHash } from "./idempotency.ts";
import { beginCreate, beginSnapshot, type Held } from "./journal.ts";
import type { OperationOwner } from "./owner.ts";
import type { RequestOptions, Requests } from "./requests.ts";
import type { OperationRunner, RunnerOptions } from "./runner.ts";
import type { Snapshots } from "./snapshots.ts";

/** What the children of a fork are to be. */
export interface ForkRequest {
  /** How many, 1 to 32. */
  count: number;
  /** Instead of the source's. */
  metadata?: Record<string, string>;
  timeoutSec?: number;
}

/** A fork that has come to its end. */
export interface Fork {
  /** The source as it is after its checkpoint. */
  source: SandboxRow;
  /** The checkpoint, which is deleted by now: the children hold what they need of it. */
  snapshot: KeptSnapshotRow;
  children: SandboxRow[];
}

/** A fork that was begun. */
export interface StartedFork {
  /** The operation that takes its checkpoint; its id is also the fork's. */
  operation: OperationRow;
  /** As it was when the request was accepted. */
  fork: ForkRow;
  /** Rejects with why the fork failed, or as `StartedOperation.done` does. It goes on whether or not this is awaited. */
  done: Promise<Fork>;
}

/** Longer than the deadlines of its operations by what lies between them, ms. */
const FORK_MARGIN_MS = 60_000;

/** How long who repeats a request waits for a fork that only the reconciler can end, ms. */
const UNOWNED_WAIT_MS = 15_000;

/** What forking needs of its surroundings. */
export interface ForkContext extends RunnerOptions {
  owner: OperationOwner;
  runner: OperationRunner;
  requests: Requests;
  snapshots: Snapshots;
  deleteSandbox: (teamId: string, id: string) => Promise<unknown>;
}

/**
 * Forks a sandbox: room for all children, one checkpoint, the children spawned from it at the same time, the checkpoint
 * deleted. All children or none: what fails takes those that were made with it.
 */
export class Forks {
  #running = new Map<string, Promise<Fork>>();

  constructor(private readonly context: ForkContext) {}

  /** Begins to fork; see Lifecycle.startFork. */
  async start(teamId: string, sandboxId: string, request: ForkRequest, options: RequestOptions): Promise<StartedFork> {
    const { requests, database } = this.context;
    const hash = await requestHash("fork", sandboxId, request);
    let begun: { fork: ForkRow; children: SandboxSpec } | undefined;
    const childIds = Array.from({ length: request.count }, newId);
    const { operation, done, replayed } = await requests.start(teamId, options, hash, async (sql, initiator) => {
      const source = await lockSnapshotSource(sql, teamId, sandboxId);
      await requireTeamRoom(sql, teamId, request.count, source);
      const id = newId();
      const kept = { id, name: `fork-${id}`, kind: "fork", platform: false } as const;
      const held = await beginSnapshot(sql, source, kept, initiator);
      const owner = initiator.owner!;
      const row = { operationId: held.operation.id, teamId, sandboxId, snapshotId: id, childIds, owner };
      const fork = await insertFork(sql, { ...row, deadlineMs: deadlineMs(source) });
      begun = { fork, children: childSpec(source, id, request) };
      return { ...held, begun: true, prepare: () => this.#reserve(source, childIds) };
    });
    // Not asked for again: were that answer lost, nobody would work on a fork whose owner lives.
    const fork = replayed ? (await getFork(database.sql, operation!.id))! : begun!.fork;
    const ended = replayed ? this.#replay(fork) : this.#carryOut(fork, begun!.children, done);
    // The failure is in the fork's row; nobody may be waiting here.
    ended.catch(() => {});
    return { operation: operation!, fork, done: ended };
  }

  #carryOut(fork: ForkRow, spec: SandboxSpec, checkpoint: Promise<SandboxRow>): Promise<Fork> {
    const attributes = { "torpor.sandbox_id": fork.sandboxId, "torpor.children": fork.childIds.length };
    const work = () => withSpan("lifecycle.fork", attributes, () => this.#run(fork, spec, checkpoint));
    const running = timed("torpor.sandbox.fork.duration", { "torpor.tier": "clone" }, work)
      .finally(() => this.#running.delete(fork.operationId));
    this.#running.set(fork.operationId, running);
    return running;
  }

  async #run(fork: ForkRow, spec: SandboxSpec, checkpoint: Promise<SandboxRow>): Promise<Fork> {
    const { database, runner, snapshots } = this.context;
    try {
      const source = await checkpoint;
      const begun = await this.#beginChildren(fork, spec);
      const children = await allOrNone(fork, begun.map((held) => runner.run(held)));
      const closed = await this.#close(fork);
      if (!closed) throw new TorporError("conflict", `fork ${fork.operationId} was given up meanwhile`);
      await snapshots.remove(fork.snapshotId);
      return { source, children, snapshot: (await getKeptSnapshot(database.sql, fork.snapshotId))! };
    } catch (thrown) {
      try {
        await this.rollBack(fork, asTorporError(thrown));
      } catch (cause) {
        log("warn", "fork_left_to_reconciler", { operation_id: fork.operationId }, cause);
        await disownFork(database.sql, fork.operationId).catch((cause) => {
          log("warn", "fork_not_disowned", { operation_id: fork.operationId }, cause);
        });
      }
      throw thrown;
    }
  }

  /** Before the checkpoint, so that a source is not stopped for children that have no room. */
  async #reserve(source: SandboxRow, childIds: string[]): Promise<void> {
    await this.context.scheduler.placeGroup({
      sandboxIds: childIds,
      resources: { vcpus: source.vcpus, memoryMb: BigInt(source.memoryMb), diskMb: BigInt(source.diskSizeMb) },
      eligibleHostIds: [source.hostId!],
      holdMs: operationDeadlineMs("snapshot", source),
    });
  }

  /** Writes all children at once, unless the fork has been taken from this process. */
  async #beginChildren(fork: ForkRow, spec: SandboxSpec): Promise<Held[]> {
    const owner = await this.context.owner.key();
    return await this.context.database.transaction("begin_children", async (sql) => {
      const locked = await lockFork(sql, fork.operationId);
      if (locked?.state !== "running" || locked.owner !== fork.owner) {
        throw new TorporError("conflict", `fork ${fork.operationId} was given up meanwhile`);
      }
      const begun: Held[] = [];
      // As it is now: what was denied to the source while its checkpoint was taken is denied to the children, too.
      const network = (await getSandboxOfAnyTeam(sql, fork.sandboxId))?.network;
      const child = { teamId: fork.teamId, spec: { ...spec, network } };
      for (const id of fork.childIds) begun.push(await beginCreate(sql, { id, ...child }, { owner }));
      return begun;
    });
  }

  /** Ends a fork, and its checkpoint with it. @returns false when it had ended before. */
  async #close(fork: ForkRow, error?: { code: string; message: string }): Promise<boolean> {
    return await this.context.database.transaction("close_fork", async (sql) => {
      const closed = await closeFork(sql, fork.operationId, error);
      if (!closed) return false;
      await setKeptSnapshotState(sql, fork.snapshotId, ["creating", "ready", "failed"], "deleting");
      // Children that were written give their room back when they are deleted; nobody deletes the others.
      if (error) await deleteReservationsWithoutSandbox(sql, fork.childIds);
      return true;
    });
  }

  /**
   * Ends a fork as failed and deletes what it has made. The children go on being deleted when that is not confirmed.
   * @throws `unavailable` when the database is away: then the fork is still open.
   */
  async rollBack(fork: ForkRow, error: TorporError): Promise<void> {
    const { database, deleteSandbox, snapshots } = this.context;
    await this.#close(fork, { code: error.code, message: error.message });
    const made = await getSandboxes(database.sql, fork.childIds);
    await Promise.all(made.map(({ id }) => deleteSandbox(fork.teamId, id)));
    await snapshots.remove(fork.snapshotId);
  }

  /**
   * Ends a fork whose process is gone: all children run, then it has succeeded; else it is rolled back.
   * @returns the error of a fork that was rolled back, undefined for one that succeeded, and "open" while a child's
   * operation is under way.
   */
  async settle(fork: ForkRow): Promise<TorporError | undefined | "open"> {
    const children = await getSandboxes(this.context.database.sql, fork.childIds);
    if (children.some(({ state }) => state === "pending" || state === "starting")) return "open";
    const made = children.filter(({ state }) => !["failed", "deleting", "deleted"].includes(state));
    if (made.length === fork.childIds.length) {
      await this.#close(fork);
      await this.context.snapshots.remove(fork.snapshotId);
      return undefined;
    }
    const error = new TorporError("unavailable", "the service that forked the sandbox ended before all children ran");
    await this.rollBack(fork, error);
    return error;
  }

  /** The answer of a fork that an earlier request has begun; its children as they are now. */
  async #replay({ operationId, createdAt, deadline }: ForkRow): Promise<Fork> {
    const running = this.#running.get(operationId);
    if (running) return await running;
    const { database, runner } = this.context;
    const leftMs = allowedMs({ createdAt, deadline }) + FORK_MARGIN_MS;
    const fork = await runner.feed.waitForFork(operationId, leftMs, this.context.unownedWaitMs ?? UNOWNED_WAIT_MS);
    if (fork.state === "failed") {
      throw new TorporError(isErrorCode(fork.errorCode) ? fork.errorCode : "internal", fork.errorMessage);
    }
    const rows = new Map((await getSandboxes(database.sql, [...fork.childIds, fork.sandboxId])).map((r) => [r.id, r]));
    const children = fork.childIds.map((id) => rows.get(id)!);
    const snapshot = (await getKeptSnapshot(database.sql, fork.snapshotId))!;
    return { source: rows.get(fork.sandboxId)!, children, snapshot };
  }

  /** Waits for the forks of this process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#running.values()]);
  }
}

function childSpec(source: SandboxRow, snapshotId: string, request: ForkRequest): SandboxSpec {
  const { template, vcpus, memoryMb, diskSizeMb, env, reclaim, autoDeleteAfterSec, ttlSec, onTtl } = source;
  const { autoResume, publicTraffic } = source;
  return {
    ...{ template, vcpus, memoryMb, diskSizeMb, env, reclaim, autoDeleteAfterSec, ttlSec, onTtl },
    ...{ autoResume, publicTraffic },
    timeoutSec: request.timeoutSec ?? source.timeoutSec,
    metadata: request.metadata ?? source.metadata,
    sourceSnapshotId: snapshotId,
  };
}

function deadlineMs(source: SandboxRow): number {
  return operationDeadlineMs("snapshot", source) + operationDeadlineMs("create", source) + FORK_MARGIN_MS;
}

/** Waits for all, also after a failure: what is still under way could not be deleted for good. */
async function allOrNone(fork: ForkRow, runs: Promise<SandboxRow>[]): Promise<SandboxRow[]> {
  const results = await Promise.allSettled(runs);
  const failed = results.findIndex(({ status }) => status === "rejected");
  if (failed < 0) return results.map((result) => (result as PromiseFulfilledResult<SandboxRow>).value);
  const cause = asTorporError((results[failed] as PromiseRejectedResult).reason);
  const message = `child ${
    failed + 1
  } of ${runs.length} of sandbox ${fork.sandboxId} could not be made: ${cause.message}`;
  throw new TorporError(cause.code, message, { cause, hint: cause.hint, retryAfterSec: cause.retryAfterSec });
}
