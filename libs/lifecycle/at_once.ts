import {
  beginCreateStep,
  beginStep,
  type Database,
  finishStep,
  newOperationId,
  type OperationRequest,
  placedStep,
  type Queryable,
  SANDBOX_STATES,
  type SandboxSpec,
} from "@torpor/db";
import { currentTraceparent } from "@torpor/telemetry";
import { operationDeadline, operationDeadlineMs } from "./deadlines.ts";
import { type Held, type Initiator, type Outcome, TRANSITIONAL } from "./journal.ts";
import { canTransition, isTransitional } from "./states.ts";
import { decide, type Verb } from "./verbs.ts";

/**
 * The steps of operations that meet nothing unusual, each as one statement (see libs/db/operation_steps.ts). Each returns
 * undefined when something is unusual: nothing has been done then, and the transaction that knows all cases decides.
 */

/** Begins to create a sandbox that is not spawned from a snapshot. */
export async function beginCreateAtOnce(
  sql: Queryable,
  sandbox: { id: string; teamId: string; spec: SandboxSpec },
  { owner, operationId = newOperationId() }: Initiator,
): Promise<Held> {
  const deadlineMs = operationDeadlineMs("create", sandbox.spec);
  const entry = { id: operationId, kind: "create", owner, traceparent: currentTraceparent() } as const;
  return await beginCreateStep(sql, { ...sandbox, deadlineMs }, entry);
}

/** Begins an operation on a sandbox that is at rest, in a state from which it may begin. */
export async function beginVerbAtOnce(
  sql: Queryable,
  asked: {
    verb: Exclude<Verb, "snapshot">;
    teamId: string;
    id: string;
    timeoutSec?: number;
    request?: OperationRequest;
  },
  { owner, operationId = newOperationId() }: Initiator,
): Promise<Held | undefined> {
  const { verb, teamId, id, timeoutSec, request } = asked;
  const { ms, msPerMb } = operationDeadline(verb);
  const changes = { timeoutSec, deadlineMs: ms, deadlineMsPerMb: msPerMb };
  const entry = { id: operationId, kind: verb, owner, traceparent: currentTraceparent(), request };
  return await beginStep(sql, { id, teamId, from: BEGINS_FROM[verb] }, TRANSITIONAL[verb], changes, entry);
}

const beginsFrom = (verb: Verb) =>
  SANDBOX_STATES.filter((state) => !isTransitional(state) && decide(verb, { state }) === "begin");

/** States at rest in which a verb begins at once. */
const BEGINS_FROM = { pause: beginsFrom("pause"), resume: beginsFrom("resume"), delete: beginsFrom("delete") };

/** Notes where the scheduler has placed the sandbox and makes the reservation last. */
export async function recordPlacementAtOnce(
  database: Database,
  { sandbox, operation }: Held,
  hostId: string,
): Promise<Held | undefined> {
  const to = sandbox.state === "pending" ? "starting" : undefined;
  const changes = to && { deadlineMs: operationDeadlineMs("create", sandbox) };
  const placed = await placedStep(database.sql, sandbox, operation.id, hostId, to, changes ?? {});
  if (!placed) return undefined;
  return { sandbox: placed, operation: { ...operation, step: "placed", hostId, version: placed.version } };
}

/** Closes an operation that has succeeded, and brings its sandbox to rest. */
export async function finishAtOnce(
  database: Database,
  { sandbox, operation }: Held,
  { path, changes, error, kept, result }: Outcome,
): Promise<Held | undefined> {
  const [to] = path;
  const usual = path.length === 1 && !error && !kept && operation.snapshotId === null &&
    operation.idempotencyKey === null;
  if (!usual || !to || !canTransition(sandbox.state, to)) return undefined;
  return await finishStep(database.sql, sandbox, operation, to, changes ?? {}, result);
}
