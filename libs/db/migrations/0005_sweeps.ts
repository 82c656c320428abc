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
  // Most sandboxes have no metadata, and each change of a row adds it to its indexes anew.
  `drop index sandboxes_metadata`,
  `create index sandboxes_metadata on sandboxes using gin (metadata jsonb_path_ops) where metadata <> '{}'`,

  // One update of the host's sums instead of two, and none when nothing has changed: each waits for the host's row.
  `create or replace function count_reservation() returns trigger language plpgsql as $$
  begin
    if tg_op = 'UPDATE' and old.host_id = new.host_id then
      if (old.vcpus, old.memory_mb, old.disk_mb) <> (new.vcpus, new.memory_mb, new.disk_mb) then
        update hosts set reserved_vcpus = reserved_vcpus + new.vcpus - old.vcpus,
          reserved_memory_mb = reserved_memory_mb + new.memory_mb - old.memory_mb,
          reserved_disk_mb = reserved_disk_mb + new.disk_mb - old.disk_mb where id = new.host_id;
      end if;
      return null;
    end if;
    if tg_op <> 'INSERT' then
      update hosts set reserved_vcpus = reserved_vcpus - old.vcpus, reserved_memory_mb = reserved_memory_mb - old.memory_mb,
        reserved_disk_mb = reserved_disk_mb - old.disk_mb where id = old.host_id;
    end if;
    if tg_op <> 'DELETE' then
      update hosts set reserved_vcpus = reserved_vcpus + new.vcpus, reserved_memory_mb = reserved_memory_mb + new.memory_mb,
        reserved_disk_mb = reserved_disk_mb + new.disk_mb where id = new.host_id;
    end if;
    return null;
  end $$`,
];

/** Sandboxes that are deleted by age, and indexes by which passes and sweeps read only what they need. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
