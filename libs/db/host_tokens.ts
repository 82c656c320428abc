import { named, type Queryable } from "./database.ts";

/** A one-time token by which a host joins. */
export interface HostTokenRow {
  id: string;
  /** What the host will be called. */
  name: string;
  createdAt: Date;
  expiresAt: Date;
  /** null: not used yet. */
  usedAt: Date | null;
  /** Who used it, and the SHA-256 of the key that its first certificate is for. */
  hostId: string | null;
  keyHash: Uint8Array | null;
  /** By the database's clock. */
  expired: boolean;
}

/** Stores a token that can be used for `lifeMs`. @param token.secretHash SHA-256 of its secret. */
export async function insertHostToken(
  sql: Queryable,
  token: { id: string; name: string; secretHash: Uint8Array; lifeMs: number },
): Promise<{ expiresAt: Date }> {
  const rows = await named("insert_host_token", () =>
    sql<{ expiresAt: Date }[]>`
    insert into host_tokens (id, name, secret_hash, expires_at)
    values (${token.id}, ${token.name}, ${token.secretHash},
      clock_timestamp() + ${token.lifeMs}::float8 * interval '1 millisecond') returning expires_at`);
  return rows[0]!;
}

/** The token with this secret, locked until the transaction ends: only one host can use it. */
export async function lockHostToken(sql: Queryable, secretHash: Uint8Array): Promise<HostTokenRow | undefined> {
  const rows = await named("lock_host_token", () =>
    sql<HostTokenRow[]>`
    select *, expires_at < clock_timestamp() as expired from host_tokens where secret_hash = ${secretHash} for update`);
  return rows[0];
}

/** Notes who has used a token. */
export async function useHostToken(
  sql: Queryable,
  id: string,
  use: { hostId: string; keyHash: Uint8Array },
): Promise<void> {
  await named("use_host_token", () =>
    sql`
    update host_tokens set used_at = clock_timestamp(), host_id = ${use.hostId}, key_hash = ${use.keyHash}
    where id = ${id}`);
}

/** The name that the operator gave a host with the newest token that it has used, or undefined. */
export async function hostTokenName(sql: Queryable, hostId: string): Promise<string | undefined> {
  const rows = await named("host_token_name", () =>
    sql<{ name: string }[]>`
    select name from host_tokens where host_id = ${hostId} order by used_at desc limit 1`);
  return rows[0]?.name;
}
