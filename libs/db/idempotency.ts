import { named, type Queryable } from "./database.ts";
import { type SandboxRow, toSandboxRow } from "./sandboxes.ts";

/** A key that a client has used. */
export interface IdempotencyRow {
  requestHash: Uint8Array;
  operationId: string | null;
}

/** Keys are forgotten after this time. */
export const IDEMPOTENCY_KEY_HOURS = 24;

/**
 * Takes a key for the request of this transaction. A concurrent request with the same key waits here until the first
 * one's transaction ends.
 * @returns undefined when the key is new, else what it was used for.
 */
export async function claimIdempotencyKey(
  sql: Queryable,
  key: { teamId: string; key: string; requestHash: Uint8Array },
): Promise<IdempotencyRow | undefined> {
  return await named("claim_idempotency_key", async () => {
    const claimed = await sql`
      insert into idempotency_keys (team_id, key, request_hash) values (${key.teamId}, ${key.key}, ${key.requestHash})
      on conflict do nothing returning key`;
    if (claimed.length > 0) return undefined;
    const [used] = await sql<IdempotencyRow[]>`
      select request_hash, operation_id from idempotency_keys where team_id = ${key.teamId} and key = ${key.key}`;
    return used;
  });
}

/** Ties a key to the operation that its request began. */
export async function setIdempotentOperation(
  sql: Queryable,
  key: { teamId: string; key: string; operationId: string },
): Promise<void> {
  await named("set_idempotent_operation", () =>
    sql`
    update idempotency_keys set operation_id = ${key.operationId} where team_id = ${key.teamId} and key = ${key.key}`);
}

/** Keeps the sandbox as it is now as the answer of a key that began no operation. */
export async function setIdempotentAnswer(
  sql: Queryable,
  key: { teamId: string; key: string; sandboxId: string },
): Promise<void> {
  await named("set_idempotent_answer", () =>
    sql`
    update idempotency_keys set response = (select to_jsonb(sandboxes) from sandboxes where id = ${key.sandboxId})
    where team_id = ${key.teamId} and key = ${key.key}`);
}

/** Keeps the sandbox as an operation has left it as the answer of the operation's keys that have none yet. */
export async function setOperationAnswer(sql: Queryable, operationId: string): Promise<void> {
  await named("set_operation_answer", () =>
    sql`
    update idempotency_keys set response = (
      select to_jsonb(sandboxes) from sandboxes join operations on sandbox_id = sandboxes.id
      where operations.id = ${operationId})
    where operation_id = ${operationId} and response is null`);
}

/** The sandbox that a key's request was answered with, or undefined while there is no answer. */
export async function getIdempotentAnswer(
  sql: Queryable,
  teamId: string,
  key: string,
): Promise<SandboxRow | undefined> {
  const rows = await named("get_idempotent_answer", () =>
    sql`
    select (jsonb_populate_record(null::sandboxes, response)).* from idempotency_keys
    where team_id = ${teamId} and key = ${key} and response is not null`);
  return rows[0] && toSandboxRow(rows[0] as Parameters<typeof toSandboxRow>[0]);
}

/** What a request that begins no operation was answered with. */
export interface KeptAnswer {
  status: number;
  /** The media type; "" without a body. */
  type: string;
  body: string;
}

/** Keeps the answer of a key's first request. */
export async function keepAnswer(
  sql: Queryable,
  key: { teamId: string; key: string },
  { status, type, body }: KeptAnswer,
): Promise<void> {
  await named("keep_answer", () =>
    sql`
    update idempotency_keys set answer_status = ${status}, answer_type = ${type}, answer_body = ${body}
    where team_id = ${key.teamId} and key = ${key.key}`);
}

/** The answer of a key's first request; undefined while there is none. */
export async function getKeptAnswer(
  sql: Queryable,
  key: { teamId: string; key: string },
): Promise<KeptAnswer | undefined> {
  const rows = await named("get_kept_answer", () =>
    sql<KeptAnswer[]>`
    select answer_status as status, answer_type as type, answer_body as body from idempotency_keys
    where team_id = ${key.teamId} and key = ${key.key} and answer_status is not null`);
  return rows[0];
}

/** Forgets old keys. @returns how many. */
export async function deleteOldIdempotencyKeys(sql: Queryable, limit: number): Promise<number> {
  const rows = await named("delete_old_idempotency_keys", () =>
    sql`
    delete from idempotency_keys where (team_id, key) in (
      select team_id, key from idempotency_keys
      where created_at < now() - ${IDEMPOTENCY_KEY_HOURS} * interval '1 hour' limit ${limit} for update skip locked)
    returning key`);
  return rows.length;
}
