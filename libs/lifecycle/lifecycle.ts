import {
  claimIdempotencyKey,
  getIdempotentAnswer,
  getOperation,
  getSandbox,
  lockIdleSandboxes,
  lockSandbox,
  type OperationRow,
  type Queryable,
  type SandboxRow,
  type SandboxSpec,
  setIdempotentAnswer,
  setIdempotentOperation,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { log } from "@torpor/telemetry";
import { ActivityBatch } from "./activity.ts";
import { type IdempotentRequest, requestHash } from "./idempotency.ts";
import { beginCreate, beginOperation, type Held, type Initiator } from "./journal.ts";
import { OperationOwner } from "./owner.ts";
import { OperationRunner, type RunnerOptions } from "./runner.ts";
import { settleAbandoned, type Settled, settleOperation } from "./settle.ts";
import { decide, stateConflict, type Verb } from "./verbs.ts";

/** Options of {@linkcode Lifecycle}. */
export interface LifecycleOptions extends RunnerOptions {
  /** How long a host that knows nothing of an operation is given to receive it, ms. Default 5,000. */
  unknownGraceMs?: number;
}

/** Options of the verbs. */
export interface RequestOptions {
  /** The same key with the same request returns the first answer for a day. */
  idempotencyKey?: string;
}

/** A request that was accepted. */
export interface StartedOperation {
  /** The operation that answers the request; undefined when the sandbox was there already. */
  operation: OperationRow | undefined;
  /** The sandbox as it was when the request was accepted. */
  sandbox: SandboxRow;
  /**
   * The sandbox at rest. Rejects with why the operation failed; with `unavailable` or `deadline_exceeded` when the outcome
   * is unknown and the reconciler goes on. The operation runs whether or not this is awaited.
   */
  done: Promise<SandboxRow>;
}

/** How long a delete waits for the host's confirmation, ms; after that it goes on by itself. */
const DELETE_WAIT_MS = 30_000;

/**
 * Carries out what clients ask of sandboxes: journal, place, call the host, journal. Every verb begins in one
 * transaction; from there on it does not depend on the client or on the promise being awaited.
 *
 * Errors of all verbs: `sandbox_not_found` (also for another team's), `conflict`, `idempotency_mismatch`, `unavailable`,
 * and what the host or the scheduler answered (`no_capacity`, `template_not_found`, `pause_failed` …).
 */
export class Lifecycle implements AsyncDisposable {
  readonly #owner: OperationOwner;
  readonly #runner: OperationRunner;
  readonly #activity: ActivityBatch;

  constructor(private readonly options: LifecycleOptions) {
    this.#owner = new OperationOwner(options.database);
    this.#runner = new OperationRunner(options);
    this.#activity = new ActivityBatch(options.database);
  }

  /** Creates a sandbox and waits until it runs. */
  async createSandbox(teamId: string, spec: SandboxSpec, options: RequestOptions = {}): Promise<SandboxRow> {
    return await (await this.startCreate(teamId, spec, options)).done;
  }

  /** Saves the sandbox to disk and waits until its VM is gone; a paused one is returned as it is. */
  async pauseSandbox(teamId: string, id: string, options: RequestOptions = {}): Promise<SandboxRow> {
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

  /** Begins a create; see {@linkcode StartedOperation}. */
  async startCreate(teamId: string, spec: SandboxSpec, options: RequestOptions = {}): Promise<StartedOperation> {
    const hash = await requestHash("create", spec);
    const id = newId();
    return await this.#start(teamId, options, hash, async (sql, initiator) => {
      const held = await beginCreate(sql, { id, teamId, spec }, initiator);
      return { ...held, begun: true };
    });
  }

  /** Begins a pause, or joins the one under way. */
  async startPause(teamId: string, id: string, options: RequestOptions = {}): Promise<StartedOperation> {
    return await this.#startVerb("pause", teamId, id, options);
  }

  /** Begins a resume, or joins the one under way. While the sandbox is `pausing` it first waits for that to end. */
  async startResume(
    teamId: string,
    id: string,
    options: RequestOptions & { timeoutSec?: number } = {},
  ): Promise<StartedOperation> {
    return await this.#startVerb("resume", teamId, id, options);
  }

  /** Begins a delete, or joins the one under way. Any other operation on the sandbox ends with `conflict`. */
  async startDelete(teamId: string, id: string): Promise<StartedOperation> {
    return await this.#startVerb("delete", teamId, id, {});
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

  /** Begins to pause up to `limit` sandboxes whose idle timeout ended more than `marginMs` ago. */
  async pauseIdle(marginMs: number, limit: number): Promise<StartedOperation[]> {
    const owner = await this.#owner.key();
    const begun = await this.options.database.transaction("begin_idle_pauses", async (sql) => {
      const idle = await lockIdleSandboxes(sql, marginMs, limit);
      const held: Held[] = [];
      for (const row of idle) held.push(await beginOperation(sql, row, "pause", { owner }));
      return held;
    });
    return begun.map((held) => ({ ...held, done: this.#runner.run(held) }));
  }

  /** Waits for the operations under way, writes pending activity and gives the process's lock back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#runner[Symbol.asyncDispose]();
    await this.#activity[Symbol.asyncDispose]();
    await this.#owner[Symbol.asyncDispose]();
  }

  get #settling() {
    return { ...this.options, unknownGraceMs: this.options.unknownGraceMs ?? 5_000 };
  }

  async #startVerb(
    verb: Verb,
    teamId: string,
    id: string,
    options: RequestOptions & { timeoutSec?: number },
  ): Promise<StartedOperation> {
    const { timeoutSec } = options;
    const hash = await requestHash(verb, id, { timeoutSec });
    for (;;) {
      try {
        return await this.#start(
          teamId,
          options,
          hash,
          (sql, initiator) => beginVerb(sql, { verb, teamId, id, timeoutSec }, initiator),
        );
      } catch (thrown) {
        if (!(thrown instanceof MustWait)) throw thrown;
        // Its failure is not this request's: the state it leaves decides.
        await this.#runner.waitFor(thrown.operation).catch(() => {});
        await this.#requireEnded(thrown.operation);
      }
    }
  }

  async #requireEnded(operation: OperationRow): Promise<void> {
    const current = await getOperation(this.options.database.sql, operation.id);
    if (current?.state !== "running") return;
    throw new TorporError("unavailable", `operation ${operation.id} (${operation.kind}) has no known outcome yet`, {
      retryAfterSec: 5,
    });
  }

  /** Runs `begin` in the transaction that also takes the idempotency key, then carries out what was begun. */
  async #start(
    teamId: string,
    options: RequestOptions,
    hash: Uint8Array,
    begin: (sql: Queryable, initiator: Initiator) => Promise<Begun>,
  ): Promise<StartedOperation> {
    const request = options.idempotencyKey === undefined
      ? undefined
      : { teamId, key: options.idempotencyKey, requestHash: hash };
    const initiator = { owner: await this.#owner.key(), idempotencyKey: request?.key };
    const begun = await this.options.database.transaction("begin", async (sql) => {
      const first = request && await firstAnswer(sql, request);
      if (first) return first;
      const begun = await begin(sql, initiator);
      if (request) await bindKey(sql, request, begun);
      return begun;
    });
    return { operation: begun.operation, sandbox: begun.sandbox, done: this.#done(begun, request) };
  }

  #done(begun: Begun, request: IdempotentRequest | undefined): Promise<SandboxRow> {
    if (begun.begun) return this.#runner.run(begun as Held);
    const done = begun.replayed ? this.#replay(begun, request!) : this.#join(begun);
    done.catch(() => {});
    return done;
  }

  async #join({ operation, sandbox }: Begun): Promise<SandboxRow> {
    return operation ? await this.#runner.waitFor(operation) : sandbox;
  }

  async #replay(begun: Begun, { teamId, key }: IdempotentRequest): Promise<SandboxRow> {
    if (begun.operation) await this.#runner.waitFor(begun.operation);
    return await getIdempotentAnswer(this.options.database.sql, teamId, key) ?? begun.sandbox;
  }
}

/** What the first transaction of a request has come to. */
interface Begun {
  sandbox: SandboxRow;
  operation: OperationRow | undefined;
  /** true: this request's operation, to be carried out here. */
  begun?: boolean;
  /** true: an earlier request with the same key has the answer. */
  replayed?: boolean;
}

/** Leaves the transaction of a request that cannot begin before another operation has ended. */
class MustWait extends Error {
  constructor(readonly operation: OperationRow) {
    super("another operation must end first");
  }
}

async function beginVerb(
  sql: Queryable,
  request: { verb: Verb; teamId: string; id: string; timeoutSec?: number },
  initiator: Initiator,
): Promise<Begun> {
  const { verb, id } = request;
  const sandbox = await lockSandbox(sql, request.teamId, id);
  if (!sandbox || (sandbox.state === "deleted" && verb !== "delete")) {
    throw new TorporError("sandbox_not_found", `no sandbox ${id}`);
  }
  const decision = decide(verb, sandbox);
  if (decision === "done") return { sandbox, operation: undefined };
  if (decision === "begin") {
    return { ...await beginOperation(sql, sandbox, verb, initiator, { timeoutSec: request.timeoutSec }), begun: true };
  }
  const operation = sandbox.operationId === null ? undefined : await getOperation(sql, sandbox.operationId);
  if (decision === "join") return { sandbox, operation };
  if (decision === "wait" && operation) throw new MustWait(operation);
  throw stateConflict(verb, sandbox, operation);
}

/** @returns what an earlier request with the same key began; undefined when this is the first. */
async function firstAnswer(sql: Queryable, request: IdempotentRequest): Promise<Begun | undefined> {
  const used = await claimIdempotencyKey(sql, request);
  if (!used) return undefined;
  if (!used.requestHash.every((byte, index) => byte === request.requestHash[index])) {
    throw new TorporError("idempotency_mismatch", "this Idempotency-Key was used for another request", {
      field: "idempotency_key",
      hint: "use a new key for each request",
    });
  }
  const operation = used.operationId === null ? undefined : await getOperation(sql, used.operationId);
  const sandbox = operation
    ? await getSandbox(sql, request.teamId, operation.sandboxId)
    : await getIdempotentAnswer(sql, request.teamId, request.key);
  if (!sandbox) throw new TorporError("internal", "an idempotency key has neither operation nor answer");
  return { sandbox, operation, replayed: true };
}

async function bindKey(sql: Queryable, { teamId, key }: IdempotentRequest, begun: Begun): Promise<void> {
  if (begun.begun) return; // The journal has written it.
  if (begun.operation) await setIdempotentOperation(sql, { teamId, key, operationId: begun.operation.id });
  else await setIdempotentAnswer(sql, { teamId, key, sandboxId: begun.sandbox.id });
}
