import { type Kysely, sql } from "kysely";

// PostgreSQL reads the expression of each CHECK of a table anew for each statement that writes to it, and parses the body
// of a function in SQL at each call; PL/pgSQL keeps both. See docs/decisions/0028-rules-in-triggers.md.
const STATEMENTS = [
  `create or replace function has_webhooks(team text) returns boolean language plpgsql stable as $$
  begin
    return exists (select from webhooks where team_id = team and deleted_at is null and disabled_at is null);
  end $$`,

  // Refuses a row as a CHECK with this name would.
  `create function refuse_row(relation text, rule text) returns void language plpgsql as $$
  begin
    raise exception using errcode = 'check_violation', table = relation, constraint = rule,
      message = format('a row of "%s" violates the rule "%s"', relation, rule);
  end $$`,

  `alter table sandboxes drop constraint sandbox_state_known, drop constraint sandbox_transition_has_operation,
    drop constraint sandbox_has_host, drop constraint sandbox_snapshot_complete,
    drop constraint sandbox_paused_has_snapshot, drop constraint sandbox_failed_has_reason,
    drop constraint sandbox_on_ttl_known, drop constraint sandboxes_unique_bytes_check,
    drop constraint sandboxes_shared_bytes_check`,
  `create function check_sandbox() returns trigger language plpgsql as $$
  declare
    moves boolean := new.state in ('pending', 'starting', 'pausing', 'resuming', 'snapshotting', 'deleting');
  begin
    if not moves and new.state not in ('running', 'paused', 'lost', 'failed', 'deleted') then
      perform refuse_row('sandboxes', 'sandbox_state_known');
    end if;
    if moves <> (new.deadline is not null) or new.deadline is not null and new.operation_id is null then
      perform refuse_row('sandboxes', 'sandbox_transition_has_operation');
    end if;
    -- "deleting" has a host unless none was ever chosen; then there is nothing to tear down.
    if new.host_id is null and new.state not in ('pending', 'failed', 'deleting', 'deleted') then
      perform refuse_row('sandboxes', 'sandbox_has_host');
    end if;
    if num_nonnulls(new.snapshot_id, new.snapshot_generation, new.snapshot_size_bytes, new.snapshot_memory_bytes,
      new.snapshot_disk_bytes, new.snapshot_pages_resident, new.snapshot_pages_dirty, new.snapshot_pages_data,
      new.snapshot_created_at) not in (0, 9) then
      perform refuse_row('sandboxes', 'sandbox_snapshot_complete');
    end if;
    if new.snapshot_id is null and new.state in ('paused', 'resuming') then
      perform refuse_row('sandboxes', 'sandbox_paused_has_snapshot');
    end if;
    if new.state = 'failed' and new.reason = '' then
      perform refuse_row('sandboxes', 'sandbox_failed_has_reason');
    end if;
    if new.on_ttl not in ('pause', 'delete') then
      perform refuse_row('sandboxes', 'sandbox_on_ttl_known');
    end if;
    if new.unique_bytes < 0 or new.shared_bytes < 0 then
      perform refuse_row('sandboxes', 'sandbox_bytes_not_negative');
    end if;
    return null;
  end $$`,
  `create trigger check_sandbox after insert or update on sandboxes for each row execute function check_sandbox()`,

  `alter table operations drop constraint operations_state_check, drop constraint operation_finished_has_time,
    drop constraint operation_failed_has_code, drop constraint operation_kind_known,
    drop constraint operation_snapshot_named`,
  `create function check_operation() returns trigger language plpgsql as $$
  begin
    if new.state not in ('running', 'succeeded', 'failed') then
      perform refuse_row('operations', 'operation_state_known');
    end if;
    if new.kind not in ('create', 'pause', 'resume', 'delete', 'snapshot') then
      perform refuse_row('operations', 'operation_kind_known');
    end if;
    if (new.state = 'running') <> (new.finished_at is null) then
      perform refuse_row('operations', 'operation_finished_has_time');
    end if;
    if (new.state = 'failed') <> (new.error_code <> '') then
      perform refuse_row('operations', 'operation_failed_has_code');
    end if;
    if new.kind = 'snapshot' and new.snapshot_id is null then
      perform refuse_row('operations', 'operation_snapshot_named');
    end if;
    return null;
  end $$`,
  `create trigger check_operation after insert or update on operations for each row execute function check_operation()`,

  // These stay declared: one expression costs a third of seven.
  `alter table hosts drop constraint hosts_vcpus_check, drop constraint hosts_memory_mb_check,
    drop constraint hosts_disk_mb_check, drop constraint hosts_reserved_vcpus_check,
    drop constraint hosts_reserved_memory_mb_check, drop constraint hosts_reserved_disk_mb_check,
    drop constraint hosts_stored_disk_mb_check, drop constraint host_drain_takes_none,
    drop constraint host_removed_takes_none,
    add constraint host_has_capacity check (least(vcpus - 1, memory_mb - 1, disk_mb) >= 0),
    add constraint host_sums_not_negative check (
      least(reserved_vcpus, reserved_memory_mb, reserved_disk_mb, stored_disk_mb) >= 0),
    add constraint host_leaving_takes_none check (draining or coalesce(drain_started_at, removed_at) is null)`,
  `alter table reservations drop constraint reservations_vcpus_check, drop constraint reservations_memory_mb_check,
    drop constraint reservations_disk_mb_check,
    add constraint reservation_not_negative check (least(vcpus, memory_mb, disk_mb) >= 0)`,
];

/** The rules of rows that every operation writes, where PostgreSQL does not read them anew for each statement. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
