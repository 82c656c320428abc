import { type Kysely, sql } from "kysely";

/** Answers of requests that begin no operation: the first one is the answer of every repeat. */
export async function up(database: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table idempotency_keys add column answer_status int, add column answer_type text,
    add column answer_body text, add constraint idempotency_answer_complete
      check (num_nonnulls(answer_status, answer_type, answer_body) in (0, 3))`).execute(database);
}
