import { type Kysely, sql } from "kysely";

const TABLES = ["sandboxes", "snapshots"];

const STATEMENTS = [
  // What hosts have measured for the team is summed where it is written (libs/db/stored_bytes.ts), and taken off here when
  // the host has removed it.
  `alter table team_limits add column max_stored_bytes int8 check (max_stored_bytes >= 0),
    add column stored_bytes int8 not null default 0`,
  `update team_limits set stored_bytes =
    (select coalesce(sum(unique_bytes + shared_bytes), 0) from sandboxes s
      where s.team_id = team_limits.team_id and state <> 'deleted')
    + (select coalesce(sum(unique_bytes + shared_bytes), 0) from snapshots k
      where k.team_id = team_limits.team_id and state <> 'deleted')`,
  `create function account_removed_bytes() returns trigger language plpgsql as $$
  begin
    update team_limits set stored_bytes = stored_bytes - old.unique_bytes - old.shared_bytes
      where team_id = old.team_id;
    return null;
  end $$`,
  ...TABLES.flatMap((table) => [
    `create trigger account_removed_bytes after update of state on ${table} for each row
      when (new.state = 'deleted' and old.state <> 'deleted' and old.unique_bytes + old.shared_bytes > 0)
      execute function account_removed_bytes()`,
    `create trigger account_removed_bytes_of_row after delete on ${table} for each row
      when (old.state <> 'deleted' and old.unique_bytes + old.shared_bytes > 0)
      execute function account_removed_bytes()`,
  ]),

  // What will be stored more is not known before: who has no room left is refused, by one byte.
  `create function require_stored_room() returns trigger language plpgsql as $$
  declare
    limits team_limits;
  begin
    select * into limits from team_limits where team_id = new.team_id and max_stored_bytes is not null;
    if found and coalesce(current_setting('torpor.limits_waived', true), '') <> 'on' then
      perform require_room('max_stored_bytes', limits.stored_bytes + 1, limits.max_stored_bytes, 1);
    end if;
    return null;
  end $$`,
  `create trigger require_stored_room after insert on sandboxes for each row execute function require_stored_room()`,
  `create trigger require_stored_room_to_resume after update of state on sandboxes for each row
    when (new.state = 'resuming' and old.state <> 'resuming') execute function require_stored_room()`,
  `create trigger require_stored_room after insert on snapshots for each row execute function require_stored_room()`,
];

/** A limit of what hosts store for a team. */
export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}
