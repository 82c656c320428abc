import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { type Database, named, type Queryable } from "./database.ts";
import { violates } from "./db_errors.ts";
import { forbidAll, setTeamLimits, type TeamLimits } from "./quotas.ts";

/** The team that exists from the first migration on. */
export const DEFAULT_TEAM_ID = "default";

/** Who owns sandboxes, snapshots and keys. */
export interface TeamRow {
  id: string;
  name: string;
  createdAt: Date;
  /** Its name is free again; what it used stays on record. */
  deletedAt: Date | null;
}

/** One team. */
export async function getTeam(sql: Queryable, id: string): Promise<TeamRow | undefined> {
  const rows = await named("get_team", () => sql<TeamRow[]>`select * from teams where id = ${id}`);
  return rows[0];
}

/** All teams but deleted ones, by name. */
export async function listTeams(sql: Queryable): Promise<TeamRow[]> {
  return await named("list_teams", async () => [
    ...await sql<TeamRow[]>`select * from teams where deleted_at is null order by name`,
  ]);
}

/** Writes a new team. @throws `already_exists` (field `name`). */
export async function createTeam(
  database: Database,
  team: { name: string; limits: Partial<TeamLimits> },
): Promise<TeamRow> {
  return await nameTaken(team.name, () =>
    database.transaction("create_team", async (sql) => {
      const rows = await sql<TeamRow[]>`insert into teams (id, name) values (${newId()}, ${team.name}) returning *`;
      await setTeamLimits(sql, rows[0]!.id, team.limits);
      return rows[0]!;
    }));
}

/**
 * Changes a team's name and limits; what is absent stays.
 * @throws `team_not_found`, `already_exists` (field `name`).
 */
export async function updateTeam(
  database: Database,
  id: string,
  changes: { name?: string; limits: Partial<TeamLimits> },
): Promise<TeamRow> {
  return await nameTaken(changes.name ?? "", () =>
    database.transaction("update_team", async (sql) => {
      // No key of the row changes, so sandboxes that are inserted meanwhile do not wait for this.
      const rows = await sql<TeamRow[]>`
        update teams set name = coalesce(${changes.name ?? null}, name) where id = ${id} and deleted_at is null
        returning *`;
      if (!rows[0]) throw new TorporError("team_not_found", `no team ${id}`);
      await setTeamLimits(sql, id, changes.limits);
      return rows[0];
    }));
}

async function nameTaken<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (!violates(thrown, "teams_live_name")) throw thrown;
    throw new TorporError("already_exists", `there is a team named ${name}`, { field: "name", cause: thrown });
  }
}

/**
 * Deletes a team that has nothing any more, and revokes its keys.
 * @throws `team_not_found`; `conflict` with the counts while it has sandboxes or snapshots.
 */
export async function deleteTeam(database: Database, id: string): Promise<void> {
  await database.transaction("delete_team", async (sql) => {
    // Waits for transactions that insert what refers to the team. Those that come later meet limits of 0.
    const locked = await sql`select from teams where id = ${id} and deleted_at is null for update`;
    if (locked.length === 0) throw new TorporError("team_not_found", `no team ${id}`);
    await forbidAll(sql, id);
    const [left] = await sql<{ sandboxes: number; snapshots: number }[]>`
      select (select count(*)::int from sandboxes where team_id = ${id} and state <> 'deleted') as sandboxes,
        (select count(*)::int from snapshots where team_id = ${id} and state <> 'deleted') as snapshots`;
    const { sandboxes, snapshots } = left!;
    if (sandboxes > 0 || snapshots > 0) {
      throw new TorporError("conflict", `team ${id} has ${sandboxes} sandboxes and ${snapshots} snapshots`, {
        hint: "delete them first",
        details: { sandboxes, snapshots },
      });
    }
    await sql`update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where team_id = ${id}`;
    await sql`update webhooks set deleted_at = clock_timestamp() where team_id = ${id} and deleted_at is null`;
    await sql`update teams set deleted_at = clock_timestamp() where id = ${id}`;
  });
}
