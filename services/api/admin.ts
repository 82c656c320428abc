/**
 * What an operator does at the database without a running service: migrations and API keys. `torpor up` calls it.
 *
 *     deno run --allow-env --allow-net --allow-sys --allow-read --allow-write services/api/admin.ts migrate
 */
import { defineCommand, runMain } from "citty";
import { readConfig } from "@torpor/config";
import { type Database, DEFAULT_TEAM_ID, listApiKeys, migrate, openDatabase, revokeApiKey } from "@torpor/db";
import { asTorporError, TorporError } from "@torpor/errors";
import { z } from "zod";
import { createApiKey, ensureApiKey } from "./keys/ensure_api_key.ts";

const json = { type: "boolean", default: false, description: "Print one JSON object" } as const;

const migrateCommand = defineCommand({
  meta: { name: "migrate", description: "Bring the database's schema to the newest version" },
  args: { json },
  run: ({ args }) =>
    withDatabase(args.json, async (database) => {
      const applied = await migrate(database);
      return { result: { applied }, text: applied.length === 0 ? "nothing to do" : `applied ${applied.join(", ")}` };
    }),
});

const createCommand = defineCommand({
  meta: { name: "create-api-key", description: "Make an API key and print it; it cannot be shown again" },
  args: {
    json,
    name: { type: "string", required: true, description: "What it is for" },
    "expires-at": { type: "string", description: "ISO 8601, e.g. 2027-01-31T00:00:00Z. Default: never" },
  },
  run: ({ args }) =>
    withDatabase(args.json, async (database) => {
      const expiresAt = args["expires-at"] === undefined ? undefined : readTime(args["expires-at"]);
      const made = await createApiKey(database, { name: args.name, expiresAt });
      return { result: { id: made.id, key: made.key, prefix: made.prefix }, text: made.key };
    }),
});

const ensureCommand = defineCommand({
  meta: { name: "ensure-api-key", description: "See to it that a file holds a key that this database knows" },
  args: { json, file: { type: "string", required: true, description: "Made with mode 0600 when it is missing" } },
  run: ({ args }) =>
    withDatabase(args.json, async (database) => {
      const { id, prefix, created } = await ensureApiKey(database, args.file);
      const text = `${created ? "stored" : "known"}: ${prefix}… in ${args.file}`;
      return { result: { id, prefix, created, file: args.file }, text };
    }),
});

const listCommand = defineCommand({
  meta: { name: "list-api-keys", description: "List API keys, newest first" },
  args: { json },
  run: ({ args }) =>
    withDatabase(args.json, async (database) => {
      const keys = (await listApiKeys(database.sql, DEFAULT_TEAM_ID)).map((key) => ({
        id: key.id,
        name: key.name,
        prefix: key.prefix,
        created_at: key.createdAt,
        last_used_at: key.lastUsedAt,
        expires_at: key.expiresAt,
        revoked_at: key.revokedAt,
      }));
      const lines = keys.map((key) =>
        `${key.id}  ${key.prefix}…  ${key.revoked_at ? "revoked" : "valid"}  ${key.name}`
      );
      return { result: { keys }, text: lines.join("\n") };
    }),
});

const revokeCommand = defineCommand({
  meta: { name: "revoke-api-key", description: "End an API key's life, at once" },
  args: { json, id: { type: "positional", required: true, description: "Its id, from list-api-keys" } },
  run: ({ args }) =>
    withDatabase(args.json, async (database) => {
      if (!await revokeApiKey(database.sql, DEFAULT_TEAM_ID, args.id)) {
        throw new TorporError("not_found", `no API key ${args.id}`);
      }
      return { result: { id: args.id, revoked: true }, text: "revoked" };
    }),
});

const main = defineCommand({
  meta: { name: "admin", description: "Migrations and API keys, at the database of DATABASE_URL" },
  subCommands: {
    migrate: migrateCommand,
    "create-api-key": createCommand,
    "ensure-api-key": ensureCommand,
    "list-api-keys": listCommand,
    "revoke-api-key": revokeCommand,
  },
});

/** Prints what `work` returns. An error is printed with its code, and the process exits with 1. */
async function withDatabase(
  asJson: boolean,
  work: (database: Database) => Promise<{ result: unknown; text: string }>,
): Promise<void> {
  try {
    await using database = openDatabase(readConfig({ DATABASE_URL: z.string() }).DATABASE_URL);
    const { result, text } = await work(database);
    console.log(asJson ? JSON.stringify(result) : text);
  } catch (thrown) {
    const error = asTorporError(thrown);
    const cause = error.code === "internal" && error.cause instanceof Error ? `: ${error.cause.message}` : "";
    if (asJson) console.log(JSON.stringify({ code: error.code, message: error.message }));
    console.error(`${error.code}: ${error.message}${cause}${error.hint ? `\n${error.hint}` : ""}`);
    Deno.exitCode = 1;
  }
}

function readTime(text: string): Date {
  const result = z.iso.datetime({ offset: true }).safeParse(text);
  if (result.success) return new Date(text);
  throw new TorporError("invalid_argument", `not a time: ${text}`, { field: "expires-at", cause: result.error });
}

if (import.meta.main) await runMain(main);
