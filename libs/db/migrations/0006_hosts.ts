import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  // hosts.draining: takes no new sandboxes. drain_started_at: what runs there is being paused, too.
  `alter table hosts add column drain_started_at timestamptz(3), add column removed_at timestamptz(3)`,
  `alter table hosts add constraint host_drain_takes_none check (drain_started_at is null or draining)`,
  `alter table hosts add constraint host_removed_takes_none check (removed_at is null or draining)`,
  `create table host_tokens (
    id text primary key,
    name text not null,
    secret_hash bytea not null unique,
    created_at timestamptz(3) not null default now(),
    expires_at timestamptz(3) not null,
    used_at timestamptz(3),
    host_id text,
    key_hash bytea,
    constraint host_token_used_complete check (num_nonnulls(used_at, host_id, key_hash) in (0, 3))
  )`,
  `create index host_tokens_host on host_tokens (host_id) where host_id is not null`,
  // One row: the deployment's authority, its key encrypted.
  `create table certificate_authority (
    singleton boolean primary key default true check (singleton),
    certificate text not null,
    sealed_key bytea not null,
    created_at timestamptz(3) not null default now()
  )`,
  `alter table sandboxes add column host_labels jsonb not null default '{}',
    add column required_capabilities text[] not null default '{}'`,
];

/** Adds registration tokens, the certificate authority, and the states of hosts. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}
