import { newId } from "@torpor/ids";
import { named, type Queryable } from "./database.ts";

/** An API key: never the key itself, only its SHA-256. */
export interface ApiKeyRow {
  id: string;
  teamId: string;
  name: string;
  keyHash: Uint8Array;
  /** The first characters of the key, to recognise it by. */
  prefix: string;
  /** What it may do; `*`: everything that its team may. */
  scopes: string[];
  createdAt: Date;
  lastUsedAt: Date | null;
  expiresAt: Date | null;
  revokedAt: Date | null;
}

/**
 * Stores a key.
 * @param key.keyHash SHA-256 of the key, 32 bytes.
 * @param key.scopes default: `*`.
 * @param key.expiresInSec from now on by PostgreSQL's clock, or the time that `expiresAt` names; default: never.
 */
export async function insertApiKey(
  sql: Queryable,
  key: {
    teamId: string;
    name: string;
    keyHash: Uint8Array;
    prefix: string;
    scopes?: readonly string[];
    expiresAt?: Date;
    expiresInSec?: number;
  },
): Promise<ApiKeyRow> {
  const rows = await named("insert_api_key", () =>
    sql<ApiKeyRow[]>`
    insert into api_keys (id, team_id, name, key_hash, prefix, scopes, expires_at)
    values (${newId()}, ${key.teamId}, ${key.name}, ${key.keyHash}, ${key.prefix},
      ${[...key.scopes ?? ["*"]]}::text[],
      coalesce(${key.expiresAt ?? null}::timestamptz, now() + ${
      key.expiresInSec ?? null
    }::float8 * interval '1 second'))
    returning *`);
  return rows[0]!;
}

/** A key with what its team's calls are checked by. */
export interface FoundApiKey extends ApiKeyRow {
  /** The team's limit; null: none. */
  requestsPerS: number | null;
  /** By PostgreSQL's clock, as is what follows. */
  expired: boolean;
  /** Its use was noted less than a minute ago. */
  noted: boolean;
}

/** The key with this SHA-256, revoked and expired ones too: the caller decides and can say why. */
export async function findApiKey(sql: Queryable, keyHash: Uint8Array): Promise<FoundApiKey | undefined> {
  const rows = await named("find_api_key", () =>
    sql<FoundApiKey[]>`
    select api_keys.*, requests_per_s, expires_at is not null and expires_at <= clock_timestamp() as expired,
      last_used_at is not null and last_used_at >= now() - interval '1 minute' as noted
    from api_keys left join team_limits using (team_id)
    where key_hash = ${keyHash}`);
  return rows[0];
}

/** Notes that keys were used; at most one write per key and minute. */
export async function touchApiKeys(sql: Queryable, ids: string[]): Promise<void> {
  if (ids.length === 0) return;
  await named("touch_api_keys", () =>
    sql`
    update api_keys set last_used_at = now()
    where id = any(${ids}::text[]) and (last_used_at is null or last_used_at < now() - interval '1 minute')`);
}

/** A team's keys, newest first. */
export async function listApiKeys(sql: Queryable, teamId: string): Promise<ApiKeyRow[]> {
  return await named("list_api_keys", async () => [
    ...await sql<ApiKeyRow[]>`
    select * from api_keys where team_id = ${teamId} order by created_at desc, id`,
  ]);
}

/** Ends a key's life. @returns false when the team has no such key. */
export async function revokeApiKey(sql: Queryable, teamId: string, id: string): Promise<boolean> {
  const rows = await named("revoke_api_key", () =>
    sql`
    update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where id = ${id} and team_id = ${teamId}
    returning id`);
  return rows.length > 0;
}
