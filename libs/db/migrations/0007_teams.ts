import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  `alter table teams add column deleted_at timestamptz(3)`,
  // A deleted team stays for the sandboxes, operations and usage that name it; its name is free again.
  `alter table teams drop constraint teams_name_key`,
  `create unique index teams_live_name on teams (name) where deleted_at is null`,
  `alter table api_keys add column scopes text[] not null default '{*}'`,

  // Only teams with limits have a row, so others pay for none. Beside each limit (null: none) is what is in use; only
  // triggers write that. Its lock is what makes the limits exact.
  `create table team_limits (
    team_id text primary key references teams (id),
    requests_per_s int check (requests_per_s > 0),
    max_sandboxes int8 check (max_sandboxes >= 0),
    max_running_sandboxes int8 check (max_running_sandboxes >= 0),
    max_vcpus int8 check (max_vcpus >= 0),
    max_memory_mb int8 check (max_memory_mb >= 0),
    max_disk_mb int8 check (max_disk_mb >= 0),
    max_snapshots int8 check (max_snapshots >= 0),
    sandboxes int8 not null default 0 check (sandboxes >= 0),
    running_sandboxes int8 not null default 0 check (running_sandboxes >= 0),
    vcpus int8 not null default 0 check (vcpus >= 0),
    memory_mb int8 not null default 0 check (memory_mb >= 0),
    disk_mb int8 not null default 0 check (disk_mb >= 0),
    snapshots int8 not null default 0 check (snapshots >= 0)
  ) with (fillfactor = 50)`,
  // Unlogged: a crash of the server leaves full buckets, and no request waits for its log.
  `create unlogged table team_buckets (
    team_id text primary key,
    tokens float8 not null,
    filled_at timestamptz not null,
    allowed boolean not null
  ) with (fillfactor = 50)`,

  `create function is_there(sandbox sandboxes) returns boolean language sql immutable as $$
    select sandbox.state not in ('failed', 'deleted')
  $$`,
  // A lost one may run on its host.
  `create function is_up(sandbox sandboxes) returns boolean language sql immutable as $$
    select sandbox.state in ('pending', 'starting', 'running', 'pausing', 'resuming', 'lost')
      or sandbox.state = 'snapshotting' and sandbox.accelerator <> ''
  $$`,
  `create function is_counted(snapshot snapshots) returns boolean language sql immutable as $$
    select snapshot.kind <> 'fork' and snapshot.state in ('creating', 'ready')
  $$`,
  `create function require_room(limit_name text, used int8, most int8, asked int8) returns void language plpgsql as $$
  begin
    if asked > 0 and used > most then
      raise exception using errcode = 'TQ001', message = 'a limit of the team is reached',
        detail = json_build_object('limit', limit_name, 'most', most, 'used', used - asked, 'asked', asked)::text;
    end if;
  end $$`,

  // What was used from one state change to the next, in the transaction of the change; folded into usage_days later.
  `create table usage_intervals (
    id int8 generated always as identity primary key,
    team_id text not null,
    began_at timestamptz(3) not null,
    ended_at timestamptz(3) not null,
    vcpus int8 not null default 0,
    memory_mb int8 not null default 0,
    running_disk_mb int8 not null default 0,
    paused_disk_mb int8 not null default 0,
    snapshot_bytes int8 not null default 0,
    constraint usage_interval_lasts check (ended_at > began_at)
  )`,
  // Days of UTC.
  `create table usage_days (
    team_id text not null references teams (id),
    day date not null,
    vcpu_seconds numeric not null,
    memory_mb_seconds numeric not null,
    running_disk_mb_seconds numeric not null,
    paused_disk_mb_seconds numeric not null,
    snapshot_byte_seconds numeric not null,
    primary key (team_id, day)
  )`,
  // What a sandbox or snapshot uses from its last state change until the given time; no row when that is nothing.
  `create function sandbox_usage(sandbox sandboxes, until timestamptz) returns setof usage_intervals
  language sql stable as $$
    select null::int8, sandbox.team_id, sandbox.state_changed_at, until::timestamptz(3),
      case when runs then sandbox.vcpus else 0 end::int8, case when runs then sandbox.memory_mb else 0 end::int8,
      case when runs then sandbox.disk_size_mb else 0 end::int8, case when runs then 0 else sandbox.disk_size_mb end::int8,
      case when runs then 0 else coalesce(sandbox.snapshot_size_bytes, 0) end
    from (select sandbox.state in ('running', 'pausing') or sandbox.state = 'snapshotting' and sandbox.accelerator <> ''
      as runs) as state
    where sandbox.state in ('running', 'pausing', 'snapshotting', 'paused', 'resuming')
      and until::timestamptz(3) > sandbox.state_changed_at
  $$`,
  `create function snapshot_usage(snapshot snapshots, until timestamptz) returns setof usage_intervals
  language sql stable as $$
    select null::int8, snapshot.team_id, snapshot.state_changed_at, until::timestamptz(3), 0::int8, 0::int8, 0::int8,
      0::int8, coalesce(snapshot.size_bytes, 0)
    where snapshot.state = 'ready' and until::timestamptz(3) > snapshot.state_changed_at
  $$`,

  `create function account_sandbox() returns trigger language plpgsql as $$
  declare
    there int8 := case when tg_op = 'DELETE' then 0 else is_there(new)::int end
      - case when tg_op = 'INSERT' then 0 else is_there(old)::int end;
    up int8 := case when tg_op = 'DELETE' then 0 else is_up(new)::int end
      - case when tg_op = 'INSERT' then 0 else is_up(old)::int end;
    sandbox sandboxes := case when tg_op = 'DELETE' then old else new end;
    changed_at timestamptz := case when tg_op = 'DELETE' then clock_timestamp() else new.state_changed_at end;
    limits team_limits;
  begin
    if tg_op <> 'INSERT' and old.state in ('running', 'pausing', 'snapshotting', 'paused', 'resuming') then
      insert into usage_intervals (team_id, began_at, ended_at, vcpus, memory_mb, running_disk_mb, paused_disk_mb,
          snapshot_bytes)
        select team_id, began_at, ended_at, vcpus, memory_mb, running_disk_mb, paused_disk_mb, snapshot_bytes
        from sandbox_usage(old, changed_at);
    end if;
    if there = 0 and up = 0 then return null; end if;
    update team_limits set sandboxes = team_limits.sandboxes + there,
      disk_mb = team_limits.disk_mb + there * sandbox.disk_size_mb,
      running_sandboxes = team_limits.running_sandboxes + up, vcpus = team_limits.vcpus + up * sandbox.vcpus,
      memory_mb = team_limits.memory_mb + up * sandbox.memory_mb
      where team_id = sandbox.team_id returning * into limits;
    -- Only what somebody asks for is refused. What hosts have done is written down whatever the limits.
    if found and (tg_op = 'INSERT' or sandbox.state = 'resuming')
      and coalesce(current_setting('torpor.limits_waived', true), '') <> 'on' then
      perform require_room('max_sandboxes', limits.sandboxes, limits.max_sandboxes, there),
        require_room('max_running_sandboxes', limits.running_sandboxes, limits.max_running_sandboxes, up),
        require_room('max_vcpus', limits.vcpus, limits.max_vcpus, up * sandbox.vcpus),
        require_room('max_memory_mb', limits.memory_mb, limits.max_memory_mb, up * sandbox.memory_mb),
        require_room('max_disk_mb', limits.disk_mb, limits.max_disk_mb, there * sandbox.disk_size_mb);
    end if;
    return null;
  end $$`,
  `create trigger account_sandbox after insert or update of state or delete
    on sandboxes for each row execute function account_sandbox()`,

  `create function account_snapshot() returns trigger language plpgsql as $$
  declare
    counted int8 := case when tg_op = 'DELETE' then 0 else is_counted(new)::int end
      - case when tg_op = 'INSERT' then 0 else is_counted(old)::int end;
    stored int8 := case when tg_op = 'DELETE' then 0 else stored_mb(new) end
      - case when tg_op = 'INSERT' then 0 else stored_mb(old) end;
    limits team_limits;
  begin
    if tg_op <> 'INSERT' and old.state = 'ready' then
      insert into usage_intervals (team_id, began_at, ended_at, snapshot_bytes)
        select team_id, began_at, ended_at, snapshot_bytes
        from snapshot_usage(old, case when tg_op = 'DELETE' then clock_timestamp() else new.state_changed_at end);
    end if;
    if counted = 0 and stored = 0 then return null; end if;
    update team_limits set snapshots = team_limits.snapshots + counted, disk_mb = team_limits.disk_mb + stored
      where team_id = coalesce(new.team_id, old.team_id) returning * into limits;
    if found and tg_op = 'INSERT' then
      -- What it will store is not known yet; it takes one that has no room left.
      perform require_room('max_snapshots', limits.snapshots, limits.max_snapshots, counted),
        require_room('max_disk_mb', limits.disk_mb + counted, limits.max_disk_mb, counted);
    end if;
    return null;
  end $$`,
  `create trigger account_snapshot after insert or update of state, size_bytes or delete
    on snapshots for each row execute function account_snapshot()`,

  // The names of what it refers to may be gone by the time that it is read.
  `create table audit_log (
    id text primary key,
    team_id text not null,
    key_id text not null,
    action text not null,
    target text not null default '',
    code text not null,
    trace_id text not null default '',
    address text not null default '',
    created_at timestamptz(3) not null
  )`,
  `create index audit_log_team on audit_log (team_id, created_at desc, id desc)`,
  `create index audit_log_age on audit_log (created_at desc, id desc)`,
];

/** Scopes of keys, limits of teams, usage, and the audit log. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
