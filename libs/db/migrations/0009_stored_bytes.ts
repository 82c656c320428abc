import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  // Less than its reserve is free: it reports that itself.
  `alter table hosts add column disk_full boolean not null default false`,
  // As their host has measured it last: what only it stores, and its part of what it stores together with others.
  ...["sandboxes", "snapshots"].map((table) =>
    `alter table ${table} add column unique_bytes int8 not null default 0 check (unique_bytes >= 0),
      add column shared_bytes int8 not null default 0 check (shared_bytes >= 0)`
  ),
];

/** What hosts store, for whom; hosts that are full. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
