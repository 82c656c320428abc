import { named, type Queryable } from "./database.ts";

/** How a fork stands. */
export type ForkState = "running" | "succeeded" | "failed";

/** A fork: one checkpoint of a sandbox, and the sandboxes that are spawned from it, all or none. */
export interface ForkRow {
  /** The operation that takes the checkpoint; it also identifies the fork. */
  operationId: string;
  teamId: string;
  /** The source. */
  sandboxId: string;
  snapshotId: string;
  /** Chosen before anything happens; the children are written when the checkpoint is ready. */
  childIds: string[];
  state: ForkState;
  /** As in operations. */
  owner: bigint | null;
  deadline: Date;
  errorCode: string;
  errorMessage: string;
  createdAt: Date;
  finishedAt: Date | null;
}

/** Writes a fork, in the transaction that begins its checkpoint. */
export async function insertFork(
  sql: Queryable,
  fork: Pick<ForkRow, "operationId" | "teamId" | "sandboxId" | "snapshotId" | "childIds"> & {
    owner: bigint;
    deadlineMs: number;
  },
): Promise<ForkRow> {
  const rows = await named("insert_fork", () =>
    sql<ForkRow[]>`
    insert into forks (operation_id, team_id, sandbox_id, snapshot_id, child_ids, owner, deadline)
    values (${fork.operationId}, ${fork.teamId}, ${fork.sandboxId}, ${fork.snapshotId}, ${fork.childIds}, ${fork.owner},
      now() + ${fork.deadlineMs}::float8 * interval '1 millisecond')
    returning *`);
  return rows[0]!;
}

/** The fork of a checkpoint's operation. */
export async function getFork(sql: Queryable, operationId: string): Promise<ForkRow | undefined> {
  const rows = await named("get_fork", () =>
    sql<ForkRow[]>`
    select * from forks where operation_id = ${operationId}`);
  return rows[0];
}

/** The forks among operations, by the operation. */
export async function getForks(sql: Queryable, operationIds: string[]): Promise<Map<string, ForkRow>> {
  const rows = await named("get_forks", () =>
    sql<ForkRow[]>`
    select * from forks where operation_id = any(${operationIds}::text[])`);
  return new Map(rows.map((row) => [row.operationId, row]));
}

/** As {@linkcode getFork}, locked until the transaction ends. */
export async function lockFork(sql: Queryable, operationId: string): Promise<ForkRow | undefined> {
  const rows = await named("lock_fork", () =>
    sql<ForkRow[]>`
    select * from forks where operation_id = ${operationId} for update`);
  return rows[0];
}

/**
 * Ends a fork and tells those who wait for it, on the channel of its operation.
 * @returns undefined when it had ended before.
 */
export async function closeFork(
  sql: Queryable,
  operationId: string,
  error?: { code: string; message: string },
): Promise<ForkRow | undefined> {
  return await named("close_fork", async () => {
    const rows = await sql<ForkRow[]>`
      update forks set state = ${error ? "failed" : "succeeded"}, finished_at = clock_timestamp(), owner = null,
        error_code = ${error?.code ?? ""}, error_message = ${error?.message ?? ""}
      where operation_id = ${operationId} and state = 'running'
      returning *`;
    if (rows[0]) await sql`select pg_notify('operation_finished', ${operationId})`;
    return rows[0];
  });
}

/** Leaves a running fork to the reconciler. */
export async function disownFork(sql: Queryable, operationId: string): Promise<void> {
  await named("disown_fork", () =>
    sql`
    update forks set owner = null where operation_id = ${operationId} and state = 'running'`);
}

/**
 * Takes over running forks that nobody works on: left by their owner, owned by a process whose advisory lock is gone,
 * or past their deadline by more than `graceMs`. Those whose checkpoint is still under way are left alone.
 */
export async function claimAbandonedForks(
  sql: Queryable,
  owner: bigint,
  graceMs: number,
  limit: number,
): Promise<ForkRow[]> {
  return await named("claim_abandoned_forks", async () => [
    ...await sql<ForkRow[]>`
    update forks set owner = ${owner}
    where operation_id in (
      select operation_id from forks
      where state = 'running' and owner is distinct from ${owner}
        and (owner is null
          or deadline < clock_timestamp() - ${graceMs}::float8 * interval '1 millisecond'
          or owner not in (
            select (classid::int8 << 32) | objid::int8 from pg_locks
            where locktype = 'advisory' and objsubid = 1 and granted
              and database = (select oid from pg_database where datname = current_database())))
        and not exists (select from operations where id = operation_id and state = 'running')
      order by created_at limit ${limit} for update skip locked)
    returning *`,
  ]);
}
