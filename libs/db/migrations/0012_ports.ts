import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  // Traffic to a port resumes it when it is paused.
  `alter table sandboxes add column auto_resume boolean not null default false`,
  // false: requests to its ports must show the token.
  `alter table sandboxes add column public_traffic boolean not null default true`,
  // 244 random bits.
  `alter table sandboxes add column traffic_token text not null
    default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')`,
];

/** Requests to the ports of sandboxes. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
