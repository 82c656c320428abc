import { type Kysely, sql } from "kysely";

/** Timestamps have millisecond precision, so that a Date read from a row compares equal to the row (keyset pages). */
const STATEMENTS = [
  `create table teams (
    id text primary key,
    name text not null unique,
    created_at timestamptz(3) not null default now()
  )`,
  `insert into teams (id, name) values ('default', 'default')`,

  `create table api_keys (
    id text primary key,
    team_id text not null references teams (id),
    name text not null,
    key_hash bytea not null unique check (octet_length(key_hash) = 32),
    prefix text not null,
    created_at timestamptz(3) not null default now(),
    last_used_at timestamptz(3),
    expires_at timestamptz(3),
    revoked_at timestamptz(3)
  )`,
  `create index api_keys_team on api_keys (team_id, created_at desc)`,

  `create table hosts (
    id text primary key,
    name text not null,
    address text not null,
    vcpus int not null check (vcpus > 0),
    memory_mb int8 not null check (memory_mb > 0),
    disk_mb int8 not null check (disk_mb >= 0),
    reserved_vcpus int8 not null default 0 check (reserved_vcpus >= 0),
    reserved_memory_mb int8 not null default 0 check (reserved_memory_mb >= 0),
    reserved_disk_mb int8 not null default 0 check (reserved_disk_mb >= 0),
    capabilities text[] not null default '{}',
    labels jsonb not null default '{}',
    agent_version text not null default '',
    draining boolean not null default false,
    unreachable_since timestamptz(3),
    running_sandboxes int not null default 0,
    paused_sandboxes int not null default 0,
    registered_at timestamptz(3) not null default now(),
    last_heartbeat_at timestamptz(3) not null default now()
  )`,

  `create table sandboxes (
    id text primary key,
    team_id text not null references teams (id),
    state text not null,
    version int8 not null default 1,
    operation_id text,
    host_id text references hosts (id),
    deadline timestamptz(3),
    state_changed_at timestamptz(3) not null default now(),
    reason text not null default '',
    template text not null,
    vcpus int not null,
    memory_mb int not null,
    disk_size_mb int not null,
    timeout_sec int not null,
    env jsonb not null default '{}',
    metadata jsonb not null default '{}',
    accelerator text not null default '',
    snapshot_id text,
    snapshot_generation int,
    snapshot_size_bytes int8,
    snapshot_memory_bytes int8,
    snapshot_disk_bytes int8,
    snapshot_pages_resident int8,
    snapshot_pages_dirty int8,
    snapshot_pages_data int8,
    snapshot_created_at timestamptz(3),
    created_at timestamptz(3) not null default now(),
    last_active_at timestamptz(3) not null default now(),
    paused_at timestamptz(3),
    deleted_at timestamptz(3),
    constraint sandbox_state_known check (state in ('pending', 'starting', 'running', 'pausing', 'paused', 'resuming',
      'snapshotting', 'lost', 'failed', 'deleting', 'deleted')),
    constraint sandbox_transition_has_operation check (
      (state in ('pending', 'starting', 'pausing', 'resuming', 'snapshotting', 'deleting'))
      = (deadline is not null) and (deadline is null or operation_id is not null)),
    -- "deleting" has a host unless none was ever chosen; then there is nothing to tear down.
    constraint sandbox_has_host check (
      state in ('pending', 'failed', 'deleting', 'deleted') or host_id is not null),
    constraint sandbox_snapshot_complete check (
      num_nonnulls(snapshot_id, snapshot_generation, snapshot_size_bytes, snapshot_memory_bytes, snapshot_disk_bytes,
        snapshot_pages_resident, snapshot_pages_dirty, snapshot_pages_data, snapshot_created_at) in (0, 9)),
    constraint sandbox_paused_has_snapshot check (state not in ('paused', 'resuming') or snapshot_id is not null),
    constraint sandbox_failed_has_reason check (state <> 'failed' or reason <> '')
  )`,
  `create index sandboxes_idle on sandboxes (state, last_active_at)`,
  `create index sandboxes_stale on sandboxes (state, paused_at)`,
  `create index sandboxes_page on sandboxes (team_id, created_at desc, id desc)`,
  `create index sandboxes_host on sandboxes (host_id) where state <> 'deleted'`,
  `create index sandboxes_metadata on sandboxes using gin (metadata jsonb_path_ops)`,

  `create table operations (
    id text primary key,
    sandbox_id text not null references sandboxes (id) on delete cascade,
    kind text not null check (kind in ('create', 'pause', 'resume', 'delete')),
    state text not null default 'running' check (state in ('running', 'succeeded', 'failed')),
    step text not null default 'begun',
    host_id text references hosts (id),
    version int8 not null,
    owner int8,
    idempotency_key text,
    traceparent text not null default '',
    deadline timestamptz(3) not null,
    attempts int not null default 0,
    error_code text not null default '',
    error_message text not null default '',
    created_at timestamptz(3) not null default now(),
    finished_at timestamptz(3),
    constraint operation_finished_has_time check ((state = 'running') = (finished_at is null)),
    constraint operation_failed_has_code check ((state = 'failed') = (error_code <> ''))
  )`,
  `create index operations_sandbox on operations (sandbox_id, created_at desc)`,
  // One operation at a time holds a sandbox.
  `create unique index operations_running on operations (sandbox_id) where state = 'running'`,
  `alter table sandboxes add constraint sandbox_operation foreign key (operation_id) references operations (id)
    deferrable initially deferred`,

  `create table idempotency_keys (
    team_id text not null references teams (id),
    key text not null,
    request_hash bytea not null,
    operation_id text references operations (id) on delete cascade,
    response jsonb,
    created_at timestamptz(3) not null default now(),
    primary key (team_id, key)
  )`,
  `create index idempotency_keys_operation on idempotency_keys (operation_id)`,
  `create index idempotency_keys_age on idempotency_keys (created_at)`,

  `create table reservations (
    sandbox_id text primary key,
    host_id text not null references hosts (id),
    vcpus int not null check (vcpus >= 0),
    memory_mb int8 not null check (memory_mb >= 0),
    disk_mb int8 not null check (disk_mb >= 0),
    expires_at timestamptz(3),
    created_at timestamptz(3) not null default now()
  )`,
  `create index reservations_host on reservations (host_id)`,
  `create index reservations_expiry on reservations (expires_at) where expires_at is not null`,
  // The sums beside the capacity let a placement read one row per host. Only this trigger writes them.
  `create function count_reservation() returns trigger language plpgsql as $$
  begin
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
  `create trigger count_reservation after insert or update of host_id, vcpus, memory_mb, disk_mb or delete
    on reservations for each row execute function count_reservation()`,

  `create table traces (
    trace_id text primary key,
    root_name text not null default '',
    start_ns int8 not null,
    end_ns int8 not null,
    span_count int not null default 0,
    updated_at timestamptz(3) not null default now()
  )`,
  `create index traces_age on traces (updated_at desc)`,
  `create table trace_spans (
    trace_id text not null references traces (trace_id) on delete cascade,
    span_id text not null,
    parent_span_id text not null default '',
    name text not null,
    component text not null,
    start_ns int8 not null,
    end_ns int8 not null,
    attributes jsonb not null default '{}',
    status text not null default 'unset' check (status in ('unset', 'ok', 'error')),
    status_message text not null default '',
    primary key (trace_id, span_id)
  )`,
  `create index trace_spans_sandbox on trace_spans ((attributes ->> 'torpor.sandbox_id'))
    where attributes ? 'torpor.sandbox_id'`,
];

/** Creates the schema. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
