import { newId } from "@torpor/ids";
import { named, type Queryable } from "./database.ts";
import type { HookOutcome, ReclaimCaps } from "./reclaim.ts";

/** What an operation does. */
export type OperationKind = "create" | "pause" | "resume" | "delete" | "snapshot";

/** What an operation was asked for beyond its kind. */
export interface OperationRequest {
  /** pause: instead of the sandbox's own caps. */
  reclaim?: ReclaimCaps;
  /** snapshot: its name, which the host keeps for people. */
  snapshotName?: string;
}

/** What the host told of an operation that it carried out. */
export interface OperationResult {
  /** pause: what was done in the guest. */
  hooks?: HookOutcome[];
}

/** How an operation stands. */
export type OperationState = "running" | "succeeded" | "failed";

/** One entry of the journal. */
export interface OperationRow {
  id: string;
  sandboxId: string;
  kind: OperationKind;
  state: OperationState;
  /** The last step that is known to be done: "begun", "placed", … */
  step: string;
  hostId: string | null;
  /** The fencing token of its host calls. */
  version: bigint;
  /** The advisory lock key of the process that carries it out; null: nobody, the reconciler takes it over. */
  owner: bigint | null;
  idempotencyKey: string | null;
  /** W3C trace context of the request that began it, or "". */
  traceparent: string;
  deadline: Date;
  /** snapshot: the one that it makes. */
  snapshotId: string | null;
  request: OperationRequest;
  result: OperationResult;
  /** How often the reconciler has taken it over. */
  attempts: number;
  /** An error code when failed, else "". */
  errorCode: string;
  errorMessage: string;
  createdAt: Date;
  finishedAt: Date | null;
}

/** The trace of an operation, 32 hexadecimal digits, or "" without one. */
export function operationTraceId(operation: Pick<OperationRow, "traceparent">): string {
  return operation.traceparent.split("-")[1] ?? "";
}

/** Writes the journal entry, before anything happens. */
export async function insertOperation(
  sql: Queryable,
  operation: {
    id: string;
    sandboxId: string;
    kind: OperationKind;
    hostId: string | null;
    version: bigint;
    /** null when the operation is recorded after the fact. */
    owner: bigint | null;
    idempotencyKey?: string;
    traceparent: string;
    deadlineMs: number;
    snapshotId?: string;
    request?: OperationRequest;
  },
): Promise<OperationRow> {
  const rows = await named("insert_operation", () =>
    sql<OperationRow[]>`
    insert into operations (id, sandbox_id, kind, host_id, version, owner, idempotency_key, traceparent, deadline,
      snapshot_id, request)
    values (${operation.id}, ${operation.sandboxId}, ${operation.kind}, ${operation.hostId}, ${operation.version},
      ${operation.owner}, ${operation.idempotencyKey ?? null}, ${operation.traceparent},
      now() + ${operation.deadlineMs}::float8 * interval '1 millisecond', ${operation.snapshotId ?? null},
      ${sql.json(toJson(operation.request))})
    returning *`);
  return rows[0]!;
}

/** As postgres.js takes it: it knows JSON values only by index signature. */
function toJson(value: OperationRequest | OperationResult | undefined) {
  return JSON.parse(JSON.stringify(value ?? {}));
}

/** A new operation's id. */
export const newOperationId = newId;

/** Notes a step of a running operation. @returns false when it runs no more. */
export async function recordStep(
  sql: Queryable,
  id: string,
  step: string,
  progress: { hostId?: string; version?: bigint } = {},
): Promise<boolean> {
  const rows = await named("record_step", () =>
    sql`
    update operations set step = ${step}, host_id = coalesce(${progress.hostId ?? null}, host_id),
      version = coalesce(${progress.version ?? null}::int8, version)
    where id = ${id} and state = 'running' returning id`);
  return rows.length > 0;
}

/** How an operation ended; an error makes it `failed`. */
export interface OperationEnd {
  error?: { code: string; message: string };
  result?: OperationResult;
}

/**
 * Closes a journal entry and tells those who wait for it (see operation_feed.ts).
 * @returns undefined when it was closed before.
 */
export async function closeOperation(sql: Queryable, id: string, end: OperationEnd): Promise<OperationRow | undefined> {
  return await named("close_operation", async () => {
    const rows = await sql<OperationRow[]>`
      update operations set state = ${
      end.error ? "failed" : "succeeded"
    }, finished_at = clock_timestamp(), owner = null,
        error_code = ${end.error?.code ?? ""}, error_message = ${end.error?.message ?? ""},
        result = ${sql.json(toJson(end.result))}
      where id = ${id} and state = 'running'
      returning *`;
    if (rows[0]) await sql`select pg_notify('operation_finished', ${id})`;
    return rows[0];
  });
}

/** Tells those who wait that operations have ended. */
export async function notifyFinished(sql: Queryable, ids: readonly string[]): Promise<void> {
  await named("notify_finished", () =>
    sql`
    select pg_notify('operation_finished', id) from unnest(${[...ids]}::text[]) as ended (id)`);
}

/**
 * Closes whatever operation holds the sandbox, because a delete takes its place. A snapshot that it was making is given
 * up with it: its client is told that it failed.
 */
export async function supersedeOperations(sql: Queryable, sandboxId: string, message: string): Promise<void> {
  await named("supersede_operations", () =>
    sql`
    with superseded as (
      update operations set state = 'failed', finished_at = clock_timestamp(), owner = null, error_code = 'conflict',
        error_message = ${message}
      where sandbox_id = ${sandboxId} and state = 'running' returning id, snapshot_id),
    given_up as (
      update snapshots set state = 'deleting', state_changed_at = clock_timestamp()
      where id in (select snapshot_id from superseded) and state = 'creating')
    select pg_notify('operation_finished', id) from superseded`);
}

/** One operation. */
export async function getOperation(sql: Queryable, id: string): Promise<OperationRow | undefined> {
  const rows = await named("get_operation", () => sql<OperationRow[]>`select * from operations where id = ${id}`);
  return rows[0];
}

/** As {@linkcode getOperation}, locked until the transaction ends. */
export async function lockOperation(sql: Queryable, id: string): Promise<OperationRow | undefined> {
  const rows = await named("lock_operation", () =>
    sql<OperationRow[]>`
    select * from operations where id = ${id} for update`);
  return rows[0];
}

/** One operation of a team's sandbox. */
export async function getTeamOperation(
  sql: Queryable,
  teamId: string,
  id: string,
): Promise<OperationRow | undefined> {
  const rows = await named("get_team_operation", () =>
    sql<OperationRow[]>`
    select operations.* from operations join sandboxes on sandboxes.id = sandbox_id
    where operations.id = ${id} and team_id = ${teamId}`);
  return rows[0];
}

/** The operations of a sandbox, newest first. */
export async function listOperations(sql: Queryable, sandboxId: string, limit = 100): Promise<OperationRow[]> {
  return await named("list_operations", async () => [
    ...await sql<OperationRow[]>`
    select * from operations where sandbox_id = ${sandboxId} order by created_at desc, id desc limit ${limit}`,
  ]);
}

/** Leaves a running operation to the reconciler: its outcome is unknown to who began it. */
export async function disownOperation(sql: Queryable, id: string): Promise<void> {
  await named("disown_operation", () =>
    sql`
    update operations set owner = null where id = ${id} and state = 'running'`);
}

/**
 * Gives up those of these operations that are running, with the forks that they began: who wrote them does not know that
 * they are there.
 * @returns the ids of those that were.
 */
export async function disownStrays(sql: Queryable, ids: string[]): Promise<string[]> {
  const rows = await named("disown_strays", () =>
    sql<{ id: string }[]>`
    with forked as (
      update forks set owner = null where operation_id in ${sql(ids)} and state = 'running')
    update operations set owner = null where id in ${sql(ids)} and state = 'running' returning id`);
  return rows.map(({ id }) => id);
}

/**
 * Takes over running operations that nobody works on: left by their owner, owned by a process whose advisory lock is
 * gone, or past their deadline by more than `graceMs`.
 */
export async function claimAbandonedOperations(
  sql: Queryable,
  owner: bigint,
  graceMs: number,
  limit: number,
): Promise<OperationRow[]> {
  return await named("claim_abandoned_operations", async () => [
    ...await sql<OperationRow[]>`
    update operations set owner = ${owner}, attempts = attempts + 1
    where id in (
      select id from operations
      where state = 'running' and owner is distinct from ${owner}
        and (owner is null
          or deadline < clock_timestamp() - ${graceMs}::float8 * interval '1 millisecond'
          or owner not in (
            select (classid::int8 << 32) | objid::int8 from pg_locks
            where locktype = 'advisory' and objsubid = 1 and granted
              and database = (select oid from pg_database where datname = current_database())))
      order by created_at limit ${limit} for update skip locked)
    returning *`,
  ]);
}
