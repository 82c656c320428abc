import { named, type Queryable } from "./database.ts";
import type { OperationKind, OperationRequest, OperationResult, OperationRow } from "./operations.ts";
import { settleReservationOf } from "./reservations.ts";
import { insertSandboxStatement, stateAssignments, toSandboxRow } from "./sandboxes.ts";
import type { SandboxChanges, SandboxRecord, SandboxRow, SandboxSpec, SandboxState } from "./sandboxes.ts";

/**
 * The steps of a lifecycle operation, each as one statement, for the usual case: nobody else works on the sandbox, and
 * nothing has failed. A statement that returns undefined has changed nothing; the transaction that knows all cases (see
 * libs/lifecycle/journal.ts) then decides. One round trip and one commit instead of five to nine is what makes a control
 * plane of two cores carry hundreds of operations a second.
 */

// An open operation is found here by `finished_at is null`, which a constraint makes the same as `state = 'running'`: by the
// latter PostgreSQL takes the index of running operations, with all its dead entries, instead of the primary key.

/** A journal entry that is to be written. */
export interface NewOperation {
  id: string;
  kind: OperationKind;
  owner: bigint | null;
  traceparent: string;
  request?: OperationRequest;
}

/** A sandbox with the operation that has just begun to hold it. */
export interface Begun {
  sandbox: SandboxRow;
  operation: OperationRow;
  /** Of the sandbox's host; undefined while it has none, or a removed one. */
  hostAddress: string | undefined;
}

/** Writes a new sandbox and the operation that creates it. */
export async function beginCreateStep(
  sql: Queryable,
  sandbox: { id: string; teamId: string; deadlineMs: number; spec: SandboxSpec },
  operation: NewOperation,
): Promise<Begun> {
  const rows = await named("begin_create", () =>
    sql<BegunRecord[]>`
    with changed as (${insertSandboxStatement(sql, { ...sandbox, operationId: operation.id })}),
    journalled as (${insertOperationOf(sql, operation)})
    select changed.*, journalled.created_at as operation_created_at, null as host_address from changed, journalled`);
  return begunOf(rows[0]!, operation);
}

/**
 * Moves a sandbox into a transitional state and journals the operation that does so.
 * @param from the states in which it is at rest and the operation may begin.
 * @returns undefined when it is in none of them, or not the team's.
 */
export async function beginStep(
  sql: Queryable,
  sandbox: { id: string; teamId: string; from: readonly SandboxState[] },
  to: SandboxState,
  changes: SandboxChanges,
  operation: NewOperation,
): Promise<Begun | undefined> {
  const rows = await named(`begin_${operation.kind}`, () =>
    sql<BegunRecord[]>`
    with changed as (
      update sandboxes set ${stateAssignments(sql, to, { ...changes, operationId: operation.id })}
      where id = ${sandbox.id} and team_id = ${sandbox.teamId} and state = any(${[...sandbox.from]}::text[])
      returning *),
    journalled as (${insertOperationOf(sql, operation)})
    select changed.*, journalled.created_at as operation_created_at,
      (select address from hosts where hosts.id = changed.host_id and removed_at is null) as host_address
    from changed, journalled`);
  return rows[0] && begunOf(rows[0], operation);
}

type BegunRecord = SandboxRecord & { operationCreatedAt: Date; hostAddress: string | null };

/** Part of a statement that has `changed`, the sandbox as it has become. */
function insertOperationOf(sql: Queryable, { id, kind, owner, traceparent, request }: NewOperation) {
  return sql`
    insert into operations (id, sandbox_id, kind, host_id, version, owner, traceparent, deadline, request)
    select ${id}, id, ${kind}, host_id, version, ${owner}::int8, ${traceparent}, deadline,
      ${sql.json(JSON.parse(JSON.stringify(request ?? {})))}::jsonb
    from changed returning created_at`;
}

function begunOf(record: BegunRecord, operation: NewOperation): Begun {
  const sandbox = toSandboxRow(record);
  return {
    sandbox,
    hostAddress: record.hostAddress ?? undefined,
    operation: {
      id: operation.id,
      sandboxId: sandbox.id,
      kind: operation.kind,
      state: "running",
      step: "begun",
      hostId: sandbox.hostId,
      version: sandbox.version,
      owner: operation.owner,
      idempotencyKey: null,
      traceparent: operation.traceparent,
      deadline: sandbox.deadline!,
      snapshotId: null,
      request: operation.request ?? {},
      result: {},
      attempts: 0,
      errorCode: "",
      errorMessage: "",
      createdAt: record.operationCreatedAt,
      finishedAt: null,
    },
  };
}

/** A sandbox as it was when an operation began to hold it. */
export type HeldSandbox = Pick<SandboxRow, "id" | "state" | "version">;

/**
 * Notes where a sandbox was placed, makes its reservation last, and moves it on.
 * @param to undefined: it stays in its state.
 * @returns undefined when the operation no longer holds it, or the reservation has expired.
 */
export async function placedStep(
  sql: Queryable,
  sandbox: HeldSandbox,
  operationId: string,
  hostId: string,
  to: SandboxState | undefined,
  changes: SandboxChanges,
): Promise<SandboxRow | undefined> {
  const moved = to === undefined ? sql`select * from held` : sql`
    update sandboxes set ${stateAssignments(sql, to, { ...changes, hostId })}
    where id = ${sandbox.id} and exists (select from bound) returning *`;
  const rows = await named("record_placement", () =>
    sql<SandboxRecord[]>`
    with held as (
      select * from sandboxes
      where id = ${sandbox.id} and operation_id = ${operationId} and state = ${sandbox.state}
        and version = ${sandbox.version} for update),
    bound as (
      update reservations set expires_at = null
      where sandbox_id = ${sandbox.id} and host_id = ${hostId} and exists (select from held) returning sandbox_id),
    moved as (${moved}),
    noted as (
      update operations set step = 'placed', host_id = ${hostId}, version = (select version from moved)
      where id = ${operationId} and finished_at is null and exists (select from bound) returning id)
    select moved.* from moved, bound, noted`);
  return rows[0] && toSandboxRow(rows[0]);
}

/**
 * Closes an operation that has succeeded and brings its sandbox to rest, its reservation included. Nobody is told.
 * @returns undefined when the operation no longer holds the sandbox.
 */
export async function finishStep(
  sql: Queryable,
  sandbox: HeldSandbox,
  operation: OperationRow,
  to: SandboxState,
  changes: SandboxChanges,
  result: OperationResult = {},
): Promise<{ sandbox: SandboxRow; operation: OperationRow } | undefined> {
  const rows = await named(`finish_${operation.kind}`, () =>
    sql<(SandboxRecord & { finishedAt: Date })[]>`
    with moved as (
      update sandboxes set ${stateAssignments(sql, to, changes)}
      where id = ${sandbox.id} and operation_id = ${operation.id} and state = ${sandbox.state}
        and version = ${sandbox.version} returning *),
    settled as (${settleReservationOf(sql, to)}),
    closed as (
      update operations set state = 'succeeded', finished_at = clock_timestamp(), owner = null,
        result = ${sql.json(JSON.parse(JSON.stringify(result)))}::jsonb
      where id = ${operation.id} and finished_at is null and exists (select from moved) returning finished_at)
    select moved.*, closed.finished_at from moved, closed`);
  const [row] = rows;
  if (!row) return undefined;
  const closed = { ...operation, state: "succeeded", owner: null, finishedAt: row.finishedAt, result } as const;
  return { sandbox: toSandboxRow(row), operation: closed };
}
