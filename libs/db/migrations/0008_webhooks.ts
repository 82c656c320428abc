import { type Kysely, sql } from "kysely";

const STATEMENTS = [
  // A deleted one stays until its deliveries are gone.
  `create table webhooks (
    id text primary key,
    team_id text not null references teams (id),
    url text not null,
    description text not null default '',
    events text[] not null check (cardinality(events) > 0),
    secret bytea not null,
    previous_secret bytea,
    previous_secret_expires_at timestamptz(3),
    failing_since timestamptz(3),
    last_delivered_at timestamptz(3),
    disabled_at timestamptz(3),
    disabled_reason text not null default '',
    created_at timestamptz(3) not null default now(),
    deleted_at timestamptz(3),
    constraint webhook_previous_secret_expires check (
      (previous_secret is null) = (previous_secret_expires_at is null)),
    constraint webhook_disabled_has_reason check ((disabled_at is null) = (disabled_reason = ''))
  )`,
  `create index webhooks_team on webhooks (team_id, created_at desc, id desc) where deleted_at is null`,
  `create index webhooks_deleted on webhooks (deleted_at) where deleted_at is not null`,

  // The outbox and the record of what became of it. Its webhook is no foreign key: the changes of all sandboxes of a team
  // would lock that one row, and one that meets its deletion would fail.
  `create table webhook_deliveries (
    webhook_id text not null,
    event_id text not null,
    type text not null,
    data jsonb not null,
    occurred_at timestamptz(3) not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    attempts int not null default 0,
    next_attempt_at timestamptz(3) default now(),
    last_attempt_at timestamptz(3),
    took_ms int,
    response_status int,
    response_body text not null default '',
    error text not null default '',
    ended_at timestamptz(3),
    primary key (webhook_id, event_id),
    constraint webhook_delivery_ends check (
      (state = 'pending') = (ended_at is null) and (state = 'pending') = (next_attempt_at is not null))
  ) with (fillfactor = 70)`,
  `create index webhook_deliveries_due on webhook_deliveries (webhook_id, next_attempt_at) where state = 'pending'`,
  `create index webhook_deliveries_page on webhook_deliveries (webhook_id, occurred_at desc, event_id desc)`,
  `create index webhook_deliveries_ended on webhook_deliveries (ended_at) where ended_at is not null`,

  `create function has_webhooks(team text) returns boolean language sql stable as $$
    select exists (select from webhooks where team_id = team and deleted_at is null and disabled_at is null)
  $$`,
  // An event's id is made of what it is about, so that it is written once however often a transition is repeated.
  `create function write_event(team text, id text, event text, at timestamptz, about jsonb) returns void
  language sql as $$
    insert into webhook_deliveries (webhook_id, event_id, type, occurred_at, data)
    select webhooks.id, write_event.id, event, at, about from webhooks
    where team_id = team and deleted_at is null and disabled_at is null and events && array[event, '*']
    on conflict do nothing
  $$`,

  // What a change of state is called; null: nothing that its owner has not known before. A checkpoint leaves a sandbox
  // as it was, and so do a pause and a resume that failed.
  `create function sandbox_event(before text, after text) returns text language sql immutable as $$
    select case
      when after in ('deleted', 'failed', 'lost') then 'sandbox.' || after
      when after = 'running' and before in ('starting', 'lost') then 'sandbox.running'
      when after = 'running' and before = 'resuming' then 'sandbox.resumed'
      when after = 'paused' and before in ('pausing', 'lost') then 'sandbox.paused'
    end
  $$`,
  `create function write_sandbox_event() returns trigger language plpgsql as $$
  declare
    event text := case when tg_op = 'INSERT' then 'sandbox.created' else sandbox_event(old.state, new.state) end;
  begin
    if event is null or not has_webhooks(new.team_id) then return null; end if;
    perform write_event(new.team_id, 'evt_' || new.id || '_' || new.version, event, new.state_changed_at,
      jsonb_build_object('sandbox_id', new.id, 'state', new.state,
        'previous_state', case when tg_op = 'INSERT' then null else old.state end, 'version', new.version,
        'reason', new.reason, 'operation_id', new.operation_id, 'host_id', new.host_id, 'template', new.template,
        'source_snapshot_id', new.source_snapshot_id, 'metadata', new.metadata));
    return null;
  end $$`,
  `create trigger write_sandbox_created after insert on sandboxes for each row execute function write_sandbox_event()`,
  `create trigger write_sandbox_event after update of state on sandboxes for each row
    when (new.state in ('running', 'paused', 'failed', 'lost', 'deleted'))
    execute function write_sandbox_event()`,

  `create function write_snapshot_event() returns trigger language plpgsql as $$
  begin
    if not has_webhooks(new.team_id) then return null; end if;
    perform write_event(new.team_id, 'evt_' || new.id || '_' || new.state, 'snapshot.' || new.state,
      new.state_changed_at, jsonb_build_object('snapshot_id', new.id, 'name', new.name, 'kind', new.kind,
        'state', new.state, 'reason', new.reason, 'sandbox_id', new.sandbox_id, 'size_bytes', new.size_bytes));
    return null;
  end $$`,
  // The checkpoint of a fork is nobody's to use: the fork tells.
  `create trigger write_snapshot_event after update of state on snapshots for each row
    when (new.state in ('ready', 'failed', 'deleted') and new.state <> old.state and new.kind <> 'fork')
    execute function write_snapshot_event()`,

  `create function write_fork_event() returns trigger language plpgsql as $$
  begin
    if not has_webhooks(new.team_id) then return null; end if;
    perform write_event(new.team_id, 'evt_' || new.operation_id || '_' || new.state, 'fork.' || new.state,
      new.finished_at, jsonb_build_object('operation_id', new.operation_id, 'sandbox_id', new.sandbox_id,
        'child_ids', new.child_ids, 'state', new.state, 'reason', new.error_code));
    return null;
  end $$`,
  `create trigger write_fork_event after update of state on forks for each row
    when (new.state <> 'running' and old.state = 'running') execute function write_fork_event()`,
];

/** Webhooks: who is told of what, and the outbox that triggers fill in the transaction of each change. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
