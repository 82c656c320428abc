import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  `alter table snapshots add column expires_at timestamptz(3)`,
  // The snapshot of a fork ends with the fork.
  `alter table snapshots add constraint snapshot_of_fork_stays check (kind <> 'fork' or expires_at is null)`,
  `create index snapshots_expiry on snapshots (expires_at) where state = 'ready' and expires_at is not null`,
  `create index snapshots_failed on snapshots (state_changed_at) where state = 'failed'`,

  // What snapshots store is really there, so it is kept apart from what is only reserved, which may be over-committed.
  `alter table hosts add column stored_disk_mb int8 not null default 0 check (stored_disk_mb >= 0)`,
  `create function stored_mb(snapshot snapshots) returns int8 language sql immutable as $$
    select case when snapshot.state in ('ready', 'deleting') then (coalesce(snapshot.size_bytes, 0) + 1048575) / 1048576
      else 0 end
  $$`,
  `update hosts set stored_disk_mb = (select coalesce(sum(stored_mb(snapshots)), 0) from snapshots where host_id = hosts.id)`,
  // Only this trigger writes the sums.
  `create function count_snapshot() returns trigger language plpgsql as $$
  declare
    before int8 := case when tg_op = 'INSERT' then 0 else stored_mb(old) end;
    after int8 := case when tg_op = 'DELETE' then 0 else stored_mb(new) end;
  begin
    if before <> after then
      update hosts set stored_disk_mb = stored_disk_mb + after - before where id = coalesce(new.host_id, old.host_id);
    end if;
    return null;
  end $$`,
  `create trigger count_snapshot after insert or update of state, size_bytes or delete
    on snapshots for each row execute function count_snapshot()`,
];

/** Snapshots expire, and what they store counts against their host's disk. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
