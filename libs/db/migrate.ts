import { Kysely } from "kysely";
import { type MigrationProvider, Migrator } from "kysely/migration";
import { PostgresJSDialect } from "kysely-postgres-js";
import { TorporError } from "@torpor/errors";
import { connect, type Database, named } from "./database.ts";
import { fromDatabaseError } from "./db_errors.ts";
import { MIGRATIONS } from "./migrations/mod.ts";

const provider: MigrationProvider = { getMigrations: () => Promise.resolve(MIGRATIONS) };

/**
 * Brings the schema to the newest version. Safe to run from several processes at once: the migrator takes an advisory
 * lock, and each run applies what is missing.
 * @returns the names of the migrations that this call applied.
 * @throws `unavailable`; `internal` naming the migration that failed, of which nothing remains.
 */
export async function migrate(database: Database): Promise<string[]> {
  return await named("migrate", async () => {
    const postgres = connect(database.url, { max: 1, statementTimeoutMs: 0 });
    await using kysely = new Kysely<unknown>({ dialect: new PostgresJSDialect({ postgres }) });
    const { error, results } = await new Migrator({ db: kysely, provider }).migrateToLatest();
    if (error !== undefined) {
      const failed = results?.find((result) => result.status === "Error")?.migrationName;
      const cause = fromDatabaseError(error);
      if (cause instanceof TorporError) throw cause;
      throw new TorporError("internal", `migration ${failed ?? "(none)"} failed`, { cause });
    }
    return (results ?? []).map((result) => result.migrationName);
  });
}

/** The name of the newest migration that this code knows. */
export function newestMigration(): string {
  return Object.keys(MIGRATIONS).sort().at(-1)!;
}
