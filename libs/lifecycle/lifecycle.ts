import {
  expireFailedSnapshots,
  expireKeptSnapshots,
  type KeptSnapshotRow,
  lockDueSandboxes,
  newOperationId,
  type OperationRow,
  type Queryable,
  type ReclaimCaps,
  type SandboxRow,
  type SandboxSpec,
  type SandboxState,
  type Sweep,
} from "@torpor/db";
import { newId } from "@torpor/ids";
import type { NetworkPolicy } from "@torpor/network";
import { log } from "@torpor/telemetry";
import { ActivityBatch } from "./activity.ts";
import { beginCreateAtOnce, beginVerbAtOnce } from "./at_once.ts";
import { beginVerb, type VerbRequest } from "./begin_verb.ts";
import { type Fork, type ForkRequest, Forks, type StartedFork } from "./forks.ts";
import { requestHash } from "./idempotency.ts";
import { beginCreate, beginOperation, type Held, type Initiator } from "./journal.ts";
import { type UpdatedNetwork, updateNetwork } from "./network.ts";
import { OperationOwner } from "./owner.ts";
import { type RequestOptions, Requests, type StartedOperation } from "./requests.ts";
import { OperationRunner, type RunnerOptions } from "./runner.ts";
import { settleAbandoned, type Settled, settleOperation } from "./settle.ts";
import { type SettledFork, settleForks } from "./settle_forks.ts";
import { requireSpawnable, type SnapshotRequest, Snapshots, type StartedSnapshot } from "./snapshots.ts";
import { Strays } from "./strays.ts";

/** Options of {@linkcode Lifecycle}. */
export interface LifecycleOptions extends RunnerOptions {
  /** How long a host that knows nothing of an operation is given to receive it, ms. Default 5,000. */
  unknownGraceMs?: number;
  /** Seconds until a snapshot is deleted whose request does not say. Default 0: never. */
  snapshotRetentionSec?: number;
}

/** A snapshot whose time is over, in state `deleting`. */
export interface ExpiredSnapshot {
  snapshot: KeptSnapshotRow;
  fromState: "ready" | "failed";
}

/** An operation that a sweep has begun. */
export interface SweptSandbox extends StartedOperation {
  fromState: SandboxState;
}

/** How long a delete waits for the host's confirmation, ms; after that it goes on by itself. */
const DELETE_WAIT_MS = 30_000;

/**
 * Carries out what clients ask of sandboxes: journal, place, call the host, journal. Every verb begins in one
 * transaction; from there on it does not depend on the client or on the promise being awaited.
 *
 * Errors of all verbs: `sandbox_not_found` (also for another team's), `conflict`, `idempotency_mismatch`, `unavailable`,
 * `quota_exceeded` for what would go beyond a limit of the team, and what the host or the scheduler answered
 * (`no_capacity`, `template_not_found`, `pause_failed` …).
 */
export class Lifecycle implements AsyncDisposable {
  readonly #owner: OperationOwner;
  readonly #runner: OperationRunner;
  readonly #activity: ActivityBatch;
  readonly #strays: Strays;
  readonly #requests: Requests;
  readonly #snapshots: Snapshots;
  readonly #forks: Forks;

  constructor(private readonly options: LifecycleOptions) {
    const { database, hosts, snapshotRetentionSec = 0 } = options;
    this.#owner = new OperationOwner(database);
    this.#runner = new OperationRunner(options);
    this.#activity = new ActivityBatch(database);
    this.#strays = new Strays(database);
    this.#requests = new Requests(database, this.#owner, this.#runner, this.#strays);
    this.#snapshots = new Snapshots(database, hosts, this.#requests, snapshotRetentionSec);
    this.#forks = new Forks({
      ...options,
      owner: this.#owner,
      runner: this.#runner,
      requests: this.#requests,
      snapshots: this.#snapshots,
      deleteSandbox: (teamId, id) => this.deleteSandbox(teamId, id),
    });
  }

  /** Creates a sandbox and waits until it runs. */
  async createSandbox(teamId: string, spec: SandboxSpec, options: RequestOptions = {}): Promise<SandboxRow> {
    return await (await this.startCreate(teamId, spec, options)).done;
  }

  /** Saves the sandbox to disk and waits until its VM is gone; a paused one is returned as it is. */
  async pauseSandbox(
    teamId: string,
    id: string,
    options: RequestOptions & { reclaim?: ReclaimCaps } = {},
  ): Promise<SandboxRow> {
    return await (await this.startPause(teamId, id, options)).done;
  }

  /**
   * Brings a paused sandbox back and waits until it runs; a running one is returned as it is.
   * @param options.timeoutSec replaces the sandbox's idle timeout, seconds.
   */
  async resumeSandbox(
    teamId: string,
    id: string,
    options: RequestOptions & { timeoutSec?: number } = {},
  ): Promise<SandboxRow> {
    return await (await this.startResume(teamId, id, options)).done;
  }

  /**
   * Deletes a sandbox, whatever it is doing.
   * @returns confirmed: false when the host has not confirmed within 30 s; the reconciler goes on until it does.
   */
  async deleteSandbox(teamId: string, id: string): Promise<{ confirmed: boolean }> {
    const { done, operation } = await this.startDelete(teamId, id);
    // Nobody works on it now: the host could not be reached, and the reconciler will try again.
    if (operation?.state === "running" && operation.owner === null) return { confirmed: false };
    let timer: ReturnType<typeof setTimeout> | undefined;
    const waited = new Promise<void>((resolve) => timer = setTimeout(resolve, DELETE_WAIT_MS));
    try {
      const sandbox = await Promise.race([done, waited]);
      return { confirmed: typeof sandbox === "object" && sandbox.state === "deleted" };
    } catch (thrown) {
      log("warn", "delete_unconfirmed", { sandbox_id: id, operation_id: operation?.id }, thrown);
      return { confirmed: false };
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Begins a create, by a boot or from a snapshot; see {@linkcode StartedOperation}.
   * @throws for `spec.sourceSnapshotId` also `snapshot_not_found`, and `conflict` when that is not ready.
   */
  async startCreate(teamId: string, spec: SandboxSpec, options: RequestOptions = {}): Promise<StartedOperation> {
    const hash = () => requestHash("create", spec);
    const sandbox = { id: newId(), teamId, spec };
    const begin = async (sql: Queryable, initiator: Initiator) => {
      if (spec.sourceSnapshotId !== null) await requireSpawnable(sql, teamId, spec.sourceSnapshotId);
      return { ...await beginCreate(sql, sandbox, initiator), begun: true };
    };
    if (spec.sourceSnapshotId !== null) return await this.#requests.start(teamId, options, hash, begin);
    const atOnce = (sql: Queryable, initiator: Initiator) => beginCreateAtOnce(sql, sandbox, initiator);
    return await this.#requests.start(teamId, options, hash, begin, atOnce);
  }

  /**
   * Begins a pause, or joins the one under way; while a checkpoint is taken it first waits for that.
   * @param options.reclaim instead of the sandbox's own caps.
   */
  async startPause(
    teamId: string,
    id: string,
    { reclaim, ...options }: RequestOptions & { reclaim?: ReclaimCaps } = {},
  ): Promise<StartedOperation> {
    return await this.#startVerb({ verb: "pause", teamId, id, request: reclaim && { reclaim } }, options);
  }

  /** Begins a resume, or joins the one under way; while it is paused or a checkpoint is taken it first waits for that. */
  async startResume(
    teamId: string,
    id: string,
    { timeoutSec, ...options }: RequestOptions & { timeoutSec?: number } = {},
  ): Promise<StartedOperation> {
    return await this.#startVerb({ verb: "resume", teamId, id, timeoutSec }, options);
  }

  /** Begins a delete, or joins the one under way. Any other operation on the sandbox ends with `conflict`. */
  async startDelete(teamId: string, id: string): Promise<StartedOperation> {
    return await this.#startVerb({ verb: "delete", teamId, id }, {});
  }

  /**
   * Begins to take a snapshot of a running or paused sandbox, which goes on as it was.
   * @throws `already_exists` when the name is taken.
   */
  async startSnapshot(
    teamId: string,
    request: SnapshotRequest,
    options: RequestOptions = {},
  ): Promise<StartedSnapshot> {
    return await this.#snapshots.start(teamId, request, options);
  }

  /**
   * Deletes a snapshot, also one that is being taken. Sandboxes that were spawned from it go on: the host keeps the data
   * that they read until nothing refers to it.
   * @param id of a snapshot that the caller may delete.
   * @returns confirmed: false when its host has not confirmed; the reconciler goes on.
   */
  async deleteSnapshot(id: string): Promise<{ confirmed: boolean }> {
    return await this.#snapshots.delete(id);
  }

  /**
   * Changes when a snapshot is deleted by itself.
   * @param id of a snapshot that the caller may delete.
   * @param expiresInSec seconds from now; 0: never.
   * @throws `snapshot_not_found`; `conflict` when it has failed or is being deleted.
   */
  async setSnapshotExpiry(id: string, expiresInSec: number): Promise<KeptSnapshotRow> {
    return await this.#snapshots.setExpiry(id, expiresInSec);
  }

  /**
   * Begins to delete up to `limit` snapshots whose time is over, and up to `limit` that have been `failed` for longer
   * than `failedRetentionMs`: they are `deleting`, and {@linkcode deleteSnapshot} goes on with each.
   */
  async expireSnapshots(failedRetentionMs: number, limit: number): Promise<ExpiredSnapshot[]> {
    const { sql } = this.options.database;
    const ready = await expireKeptSnapshots(sql, limit);
    const failed = await expireFailedSnapshots(sql, failedRetentionMs, limit);
    return [
      ...ready.map((snapshot) => ({ snapshot, fromState: "ready" as const })),
      ...failed.map((snapshot) => ({ snapshot, fromState: "failed" as const })),
    ];
  }

  /**
   * Makes `count` sandboxes that go on where this one is, on its host; it goes on, too. All or none.
   * @throws also `no_capacity` before anything is stopped; what a child failed with.
   */
  async forkSandbox(teamId: string, id: string, request: ForkRequest, options: RequestOptions = {}): Promise<Fork> {
    return await (await this.startFork(teamId, id, request, options)).done;
  }

  /** Begins a fork; as {@linkcode forkSandbox}, but what fails after the request was accepted is in `done`. */
  async startFork(
    teamId: string,
    id: string,
    request: ForkRequest,
    options: RequestOptions = {},
  ): Promise<StartedFork> {
    return await this.#forks.start(teamId, id, request, options);
  }

  /** What an operation goes through until it has ended; see {@linkcode OperationFeed.watch}. */
  watchOperation<Row extends Pick<OperationRow, "state" | "step">>(
    id: string,
    read: () => Promise<Row>,
    signal: AbortSignal,
  ): AsyncGenerator<Row> {
    return this.#runner.feed.watch(id, read, signal);
  }

  /**
   * Replaces what a sandbox may reach: of a running one at once, of a paused one with its resume.
   * @param policy checked before.
   * @throws also `conflict` for a sandbox that cannot run any more.
   */
  async updateNetwork(teamId: string, id: string, policy: NetworkPolicy): Promise<UpdatedNetwork> {
    const { database, hosts } = this.options;
    return await updateNetwork(database, hosts, teamId, id, policy);
  }

  /** Notes that a sandbox is in use; written in batches. */
  touch(sandboxId: string): void {
    this.#activity.touch(sandboxId);
  }

  /**
   * Finishes an operation whose owner is gone, or rolls it back, by what its host says.
   * @returns undefined when it has ended before, or is still under way.
   * @throws `unavailable`, `deadline_exceeded` when the host cannot be asked; the operation stays open.
   */
  async settleOperation(operationId: string): Promise<Settled | undefined> {
    return await settleOperation(this.#settling, operationId);
  }

  /** Settles up to `limit` operations that nobody works on. Those whose host cannot be asked stay open. */
  async settleAbandoned(limit: number): Promise<Settled[]> {
    return await settleAbandoned(this.#settling, await this.#owner.key(), limit);
  }

  /** Ends up to `limit` forks that nobody works on. Call it after {@linkcode settleAbandoned}. */
  async settleForks(limit: number): Promise<SettledFork[]> {
    return await settleForks(this.options.database, this.#forks, await this.#owner.key(), limit);
  }

  /**
   * Begins to pause or delete up to `limit` sandboxes whose time has come.
   * @param idleMarginMs see `findDueSweeps`.
   */
  async beginSweep(sweep: Sweep, idleMarginMs: number, limit: number): Promise<SweptSandbox[]> {
    const owner = await this.#owner.key();
    const ids = Array.from({ length: limit }, newOperationId);
    const begun = await this.#strays.unlessLost(
      ids,
      () =>
        this.options.database.transaction("begin_sweep", async (sql) => {
          const held: (Held & Pick<SweptSandbox, "fromState">)[] = [];
          for (const row of await lockDueSandboxes(sql, sweep, idleMarginMs, limit)) {
            const kind = sweep === "stale" || (sweep === "expired" && row.onTtl === "delete") ? "delete" : "pause";
            const initiator = { owner, operationId: ids[held.length] };
            held.push({ ...await beginOperation(sql, row, kind, initiator), fromState: row.state });
          }
          return held;
        }),
    );
    return begun.map((held) => ({ ...held, done: this.#runner.run(held) }));
  }

  /** Waits for the operations under way, writes pending activity and gives the process's lock back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#runner.drain([this.#forks[Symbol.asyncDispose]()]);
    await this.#strays[Symbol.asyncDispose]();
    await this.#activity[Symbol.asyncDispose]();
    await this.#owner[Symbol.asyncDispose]();
  }

  get #settling() {
    return { ...this.options, unknownGraceMs: this.options.unknownGraceMs ?? 5_000 };
  }

  async #startVerb(asked: VerbRequest, options: RequestOptions): Promise<StartedOperation> {
    const { verb, teamId, id, timeoutSec, request } = asked;
    const hash = () => requestHash(verb, id, { timeoutSec, ...request });
    return await this.#requests.start(
      teamId,
      options,
      hash,
      (sql, initiator) => beginVerb(sql, asked, initiator),
      (sql, initiator) => beginVerbAtOnce(sql, asked, initiator),
    );
  }
}
