import { type Kysely, sql } from "kysely";

/** Lets a placement begin its scan at the host with the most free memory instead of reading and sorting all of them. */
export async function up(database: Kysely<unknown>): Promise<void> {
  await sql`create index hosts_most_free on hosts ((memory_mb - reserved_memory_mb) desc, id)`.execute(database);
}
