import {
  type Database,
  getIdempotentAnswer,
  getOperation,
  getSandbox,
  newOperationId,
  type OperationRow,
  type Queryable,
  type SandboxRow,
  setIdempotentAnswer,
  setIdempotentOperation,
  setOperationAnswer,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { claimRequest, type IdempotentRequest } from "./idempotency.ts";
import type { Held, Initiator } from "./journal.ts";
import type { OperationOwner } from "./owner.ts";
import type { OperationRunner } from "./runner.ts";
import type { Strays } from "./strays.ts";

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

/** What the first transaction of a request has come to. */
export interface Begun {
  sandbox: SandboxRow;
  operation: OperationRow | undefined;
  /** true: this request's operation, to be carried out here. */
  begun?: boolean;
  /** Runs before the host is called for it. */
  prepare?: () => Promise<void>;
  /** true: an earlier request with the same key has the answer. */
  replayed?: boolean;
}

/** Leaves the transaction of a request that cannot begin before another operation has ended. */
export class MustWait extends Error {
  constructor(readonly operation: OperationRow) {
    super("another operation must end first");
  }
}

/** Takes requests on: the transaction that journals, with its idempotency key, and then whatever answers the request. */
export class Requests {
  constructor(
    private readonly database: Database,
    private readonly owner: OperationOwner,
    private readonly runner: OperationRunner,
    private readonly strays: Strays,
  ) {}

  /**
   * Runs `begin` in the transaction that also takes the idempotency key, then carries out what was begun. A `begin` that
   * throws {@linkcode MustWait} is tried again when that operation has ended.
   * @param hash the identity of the request, see `requestHash`; a function is asked when there is a key.
   * @param atOnce begins in one statement where that is possible; tried first when there is no key to take.
   */
  async start(
    teamId: string,
    options: RequestOptions,
    hash: Uint8Array | (() => Promise<Uint8Array>),
    begin: (sql: Queryable, initiator: Initiator) => Promise<Begun>,
    atOnce?: (sql: Queryable, initiator: Initiator) => Promise<Held | undefined>,
  ): Promise<StartedOperation & { replayed: boolean }> {
    const request = options.idempotencyKey === undefined
      ? undefined
      : { teamId, key: options.idempotencyKey, requestHash: hash instanceof Uint8Array ? hash : await hash() };
    for (;;) {
      try {
        const begun = await this.#begin(request, begin, atOnce);
        const { operation, sandbox, replayed = false } = begun;
        return { operation, sandbox, replayed, done: this.#done(begun, request) };
      } catch (thrown) {
        if (!(thrown instanceof MustWait)) throw thrown;
        // Its failure is not this request's: the state it leaves decides.
        await this.runner.waitFor(thrown.operation).catch(() => {});
        await this.#requireEnded(thrown.operation);
      }
    }
  }

  async #begin(
    request: IdempotentRequest | undefined,
    begin: (sql: Queryable, initiator: Initiator) => Promise<Begun>,
    atOnce?: (sql: Queryable, initiator: Initiator) => Promise<Held | undefined>,
  ): Promise<Begun> {
    const owner = await this.owner.key();
    const initiator = { owner, idempotencyKey: request?.key, operationId: newOperationId() };
    return await this.strays.unlessLost([initiator.operationId], async () => {
      const held = request ? undefined : await atOnce?.(this.database.sql, initiator);
      if (held) return { ...held, begun: true };
      return await this.database.transaction("begin", async (sql) => {
        const first = request && await firstAnswer(sql, request);
        if (first) return first;
        const begun = await begin(sql, initiator);
        if (request) await bindKey(sql, request, begun);
        return begun;
      });
    });
  }

  #done(begun: Begun, request: IdempotentRequest | undefined): Promise<SandboxRow> {
    if (begun.begun) return this.runner.run(begun as Held, begun.prepare);
    const done = begun.replayed ? this.#replay(begun, request!) : this.#join(begun);
    done.catch(() => {});
    return done;
  }

  async #join({ operation, sandbox }: Begun): Promise<SandboxRow> {
    return operation ? await this.runner.waitFor(operation) : sandbox;
  }

  async #replay(begun: Begun, { teamId, key }: IdempotentRequest): Promise<SandboxRow> {
    const { sql } = this.database;
    if (begun.operation) {
      await this.runner.waitFor(begun.operation);
      // A key that joined the operation while its end was being written may have been too late for that.
      await setOperationAnswer(sql, begun.operation.id);
    }
    return await getIdempotentAnswer(sql, teamId, key) ?? begun.sandbox;
  }

  async #requireEnded(operation: OperationRow): Promise<void> {
    const current = await getOperation(this.database.sql, operation.id);
    if (current?.state !== "running") return;
    throw new TorporError("unavailable", `operation ${operation.id} (${operation.kind}) has no known outcome yet`, {
      retryAfterSec: 5,
    });
  }
}

/** @returns what an earlier request with the same key began; undefined when this is the first. */
async function firstAnswer(sql: Queryable, request: IdempotentRequest): Promise<Begun | undefined> {
  const used = await claimRequest(sql, request);
  if (!used) return undefined;
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
