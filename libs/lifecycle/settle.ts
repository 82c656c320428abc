import {
  claimAbandonedOperations,
  type Database,
  databaseTime,
  disownOperation,
  getOperation,
  getSandboxOfAnyTeam,
  newOperationId,
  type SandboxState,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { continueTrace, log, withSpan } from "@torpor/telemetry";
import { askHost, carryOut, outcomeByHost } from "./host_calls.ts";
import type { HostClient } from "./host_clients.ts";
import { finishOperation, type Held, type Outcome } from "./journal.ts";
import type { HostView } from "./outcome.ts";
import { hostClientOf, outcomeOnRemovedHost } from "./removed_host.ts";

/** What settling needs. */
export interface Settling {
  database: Database;
  hosts: (address: string) => HostClient;
  /** See LifecycleOptions. */
  unknownGraceMs: number;
}

/** An operation that was closed on behalf of its owner. */
export interface Settled extends Held {
  /** The state that the sandbox was stuck in. */
  fromState: SandboxState;
}

/** A living owner writes its operation's end itself; only this long after the deadline is it taken from it, ms. */
const DEADLINE_GRACE_MS = 5_000;

/** Settles up to `limit` operations that nobody works on. */
export async function settleAbandoned(settling: Settling, owner: bigint, limit: number): Promise<Settled[]> {
  const claimed = await claimAbandonedOperations(settling.database.sql, owner, DEADLINE_GRACE_MS, limit);
  const settled = await Promise.all(claimed.map(async (operation) => {
    try {
      return await settleOperation(settling, operation.id);
    } catch (thrown) {
      // One host that cannot be asked must not keep the others from being settled; the next pass tries again.
      log("warn", "operation_unsettled", { operation_id: operation.id, sandbox_id: operation.sandboxId }, thrown);
      return undefined;
    }
  }));
  return settled.filter((one) => one !== undefined);
}

/** See Lifecycle.settleOperation. */
export async function settleOperation(settling: Settling, operationId: string): Promise<Settled | undefined> {
  const { database } = settling;
  const operation = await getOperation(database.sql, operationId);
  if (!operation) throw new TorporError("operation_not_found", `no operation ${operationId}`);
  if (operation.state !== "running") return undefined;
  const sandbox = await getSandboxOfAnyTeam(database.sql, operation.sandboxId);
  if (!sandbox) throw new TorporError("internal", `operation ${operationId} has no sandbox`);
  const attributes = { "torpor.sandbox_id": sandbox.id, "torpor.operation_id": operationId };
  return await continueTrace(
    operation.traceparent,
    () => withSpan("lifecycle.settle", attributes, () => settle(settling, { sandbox, operation })),
  );
}

async function settle(settling: Settling, held: Held): Promise<Settled | undefined> {
  const { database } = settling;
  let outcome: Outcome | undefined;
  try {
    outcome = await outcomeOf(settling, held);
    if (outcome) {
      const finished = await finishOperation(database, held.operation, outcome);
      return { ...finished, fromState: held.sandbox.state };
    }
  } finally {
    // Whatever was not closed is nobody's again, so that the next pass finds it. No effect on a closed one.
    await disownOperation(database.sql, held.operation.id);
  }
  return undefined;
}

async function outcomeOf(settling: Settling, held: Held): Promise<Outcome | undefined> {
  const { sandbox, operation } = held;
  if (operation.kind === "delete") {
    if (sandbox.hostId === null) return { path: ["deleted"] };
    // Under an id of its own: a destroy that failed would be answered with that failure for ever.
    return await carryOut(await hostClientOf(settling.database, settling.hosts, sandbox.hostId!), {
      sandbox,
      operation: { ...operation, id: newOperationId() },
    });
  }
  if (sandbox.state === "pending") {
    const error = { code: "unavailable", message: "the service that created the sandbox ended before it had a host" };
    return { path: ["failed"], changes: { reason: "unavailable" }, error };
  }
  const host = await hostClientOf(settling.database, settling.hosts, sandbox.hostId!);
  let view: HostView;
  try {
    view = await askHost(host, operation);
  } catch (thrown) {
    const outcome = outcomeOnRemovedHost(held, thrown);
    if (outcome) return outcome;
    throw thrown;
  }
  // The call may still be on its way to the host.
  if (view.operation === "unknown") {
    const now = await databaseTime(settling.database.sql);
    if (now.getTime() - sandbox.stateChangedAt.getTime() < settling.unknownGraceMs) return undefined;
  }
  return outcomeByHost(held, view);
}
