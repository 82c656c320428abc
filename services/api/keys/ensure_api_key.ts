import { type Database, DEFAULT_TEAM_ID, findApiKey, insertApiKey } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { apiKeyPrefix, hashApiKey, isApiKey, newApiKey } from "./api_key.ts";

/** A key that was made or found; the key itself is only known where it was just made or is in a file. */
export interface StoredApiKey {
  id: string;
  prefix: string;
  created: boolean;
}

/**
 * Makes a key for the default team.
 * @returns the key itself too: it is not stored and cannot be shown again.
 */
export async function createApiKey(
  database: Database,
  options: { name: string; expiresAt?: Date },
): Promise<StoredApiKey & { key: string }> {
  const { key, hash, prefix } = await newApiKey();
  const row = await insertApiKey(database.sql, {
    teamId: DEFAULT_TEAM_ID,
    name: options.name,
    keyHash: hash,
    prefix,
    expiresAt: options.expiresAt,
  });
  return { key, id: row.id, prefix, created: true };
}

/**
 * Sees to it that `file` (mode 0600) holds a key that this database knows. An existing key is kept; in a database that
 * does not know it (a new one), it is stored again, so that clients which have it go on working.
 * @throws TorporError `config_invalid` when the file holds something else, or a key that was revoked.
 */
export async function ensureApiKey(database: Database, file: string, name = "first"): Promise<StoredApiKey> {
  const text = await readText(file) ?? await writeNewKey(file);
  const key = text.trim();
  if (!isApiKey(key)) {
    throw new TorporError("config_invalid", `${file} does not hold an API key`, {
      hint: "move the file away; a new one is then made",
    });
  }
  return await storeKey(database, key, { file, name });
}

async function storeKey(database: Database, key: string, use: { file: string; name: string }): Promise<StoredApiKey> {
  const keyHash = await hashApiKey(key);
  const known = await findApiKey(database.sql, keyHash);
  if (known?.revokedAt) {
    throw new TorporError("config_invalid", `the key in ${use.file} was revoked`, {
      hint: "move the file away; a new one is then made",
    });
  }
  if (known) return { id: known.id, prefix: known.prefix, created: false };
  const prefix = apiKeyPrefix(key);
  try {
    const row = await insertApiKey(database.sql, { teamId: DEFAULT_TEAM_ID, name: use.name, keyHash, prefix });
    return { id: row.id, prefix, created: true };
  } catch (thrown) {
    // Another run has stored it since.
    const stored = await findApiKey(database.sql, keyHash);
    if (!stored) throw thrown;
    return { id: stored.id, prefix, created: false };
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(file);
  } catch (thrown) {
    if (thrown instanceof Deno.errors.NotFound) return undefined;
    throw thrown;
  }
}

/** The key is on disk before the database knows it: a crash between the two leaves a key that the next run stores. */
async function writeNewKey(file: string): Promise<string> {
  const { key } = await newApiKey();
  const temporary = `${file}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(temporary, `${key}\n`, { mode: 0o600, createNew: true });
  try {
    // A link fails where a rename would replace the key of a run at the same time.
    await Deno.link(temporary, file);
    return key;
  } catch (thrown) {
    if (thrown instanceof Deno.errors.AlreadyExists) return await Deno.readTextFile(file);
    throw thrown;
  } finally {
    await Deno.remove(temporary);
  }
}
