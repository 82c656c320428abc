import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  `create table snapshots (
    id text primary key,
    team_id text not null references teams (id),
    name text not null,
    kind text not null,
    platform boolean not null default false,
    state text not null,
    reason text not null default '',
    host_id text not null references hosts (id),
    sandbox_id text not null references sandboxes (id) on delete cascade,
    template text not null,
    vcpus int not null,
    memory_mb int not null,
    disk_size_mb int not null,
    generation int,
    size_bytes int8,
    memory_bytes int8,
    disk_bytes int8,
    pages_resident int8,
    pages_dirty int8,
    pages_data int8,
    stopped_us int8,
    created_at timestamptz(3) not null default now(),
    state_changed_at timestamptz(3) not null default now(),
    deleted_at timestamptz(3),
    constraint snapshot_kind_known check (kind in ('named', 'checkpoint', 'fork')),
    constraint snapshot_state_known check (state in ('creating', 'ready', 'failed', 'deleting', 'deleted')),
    constraint snapshot_ready_complete check (
      num_nonnulls(generation, size_bytes, memory_bytes, disk_bytes, pages_resident, pages_dirty, pages_data, stopped_us)
        in (0, 8)
      and (state <> 'ready' or generation is not null)),
    constraint snapshot_failed_has_reason check (state <> 'failed' or reason <> ''),
    constraint snapshot_deleted_has_time check ((state = 'deleted') = (deleted_at is not null))
  )`,
  // A name is free again as soon as its snapshot is being deleted or could not be made.
  `create unique index snapshots_live_name on snapshots (team_id, name) where state in ('creating', 'ready')`,
  `create unique index snapshots_live_platform_name on snapshots (name) where platform and state in ('creating', 'ready')`,
  `create index snapshots_page on snapshots (team_id, created_at desc, id desc)`,
  `create index snapshots_platform on snapshots (created_at desc, id desc) where platform`,
  `create index snapshots_host on snapshots (host_id) where state <> 'deleted'`,

  `alter table sandboxes add column source_snapshot_id text references snapshots (id)`,
  `alter table sandboxes add column reclaim jsonb`,

  `alter table operations drop constraint operations_kind_check`,
  `alter table operations add constraint operation_kind_known
    check (kind in ('create', 'pause', 'resume', 'delete', 'snapshot'))`,
  `alter table operations add column snapshot_id text references snapshots (id) on delete cascade`,
  `alter table operations add column request jsonb not null default '{}'`,
  `alter table operations add column result jsonb not null default '{}'`,
  `alter table operations add constraint operation_snapshot_named check (kind <> 'snapshot' or snapshot_id is not null)`,
  `create index operations_snapshot on operations (snapshot_id) where snapshot_id is not null`,

  `create table forks (
    operation_id text primary key references operations (id) on delete cascade,
    team_id text not null references teams (id),
    sandbox_id text not null references sandboxes (id) on delete cascade,
    snapshot_id text not null references snapshots (id) on delete cascade,
    child_ids text[] not null,
    state text not null default 'running' check (state in ('running', 'succeeded', 'failed')),
    owner int8,
    deadline timestamptz(3) not null,
    error_code text not null default '',
    error_message text not null default '',
    created_at timestamptz(3) not null default now(),
    finished_at timestamptz(3),
    constraint fork_has_children check (cardinality(child_ids) > 0),
    constraint fork_finished_has_time check ((state = 'running') = (finished_at is null)),
    constraint fork_failed_has_code check ((state = 'failed') = (error_code <> ''))
  )`,
  `create index forks_running on forks (deadline) where state = 'running'`,
];

/** Snapshots that belong to no sandbox, what is spawned from them, and forks. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
