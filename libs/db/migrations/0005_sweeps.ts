import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  `alter table sandboxes
    add column auto_delete_after_sec int not null default 0,
    add column ttl_sec int not null default 0,
    add column on_ttl text not null default 'pause',
    add column expires_at timestamptz(3),
    add constraint sandbox_on_ttl_known check (on_ttl in ('pause', 'delete'))`,

  // When a sweep is due is indexed itself, so that it reads what is due and nothing else. At a fixed time zone, because
  // adding to a timestamptz depends on the session's and cannot be indexed.
  `drop index sandboxes_idle`,
  `create index sandboxes_idle on sandboxes (((last_active_at at time zone 'UTC') + timeout_sec * interval '1 second'))
    where state = 'running' and timeout_sec > 0`,
  `drop index sandboxes_stale`,
  `create index sandboxes_stale on sandboxes
    (((paused_at at time zone 'UTC') + auto_delete_after_sec * interval '1 second'))
    where state = 'paused' and auto_delete_after_sec > 0`,
  `create index sandboxes_expiry on sandboxes (expires_at)
    where expires_at is not null and state not in ('deleting', 'deleted')`,

  // A reconcile pass reads what has changed on a host, and one page of what is there.
  `create index sandboxes_changed on sandboxes (host_id, state_changed_at) where state <> 'deleted'`,
  `drop index sandboxes_host`,
  `create index sandboxes_host on sandboxes (host_id, id collate "C") where state <> 'deleted'`,
];

/** Sandboxes that are deleted by age, and indexes by which passes and sweeps read only what they need. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
