import {
  countTeamUse,
  createTeam as insertTeam,
  DEFAULT_TEAM_ID,
  deleteTeam as removeTeam,
  getTeam as queryTeam,
  getTeamLimits,
  listTeams as queryTeams,
  type TeamLimits,
  type TeamRow,
  type TeamUse,
  updateTeam as changeTeam,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { z } from "zod";
import type { createTeamInput, teamLimitsInput, updateTeamInput } from "../inputs/team.ts";
import { requireAdmin } from "../keys/admin.ts";
import type { Caller } from "../keys/caller.ts";
import { chosenTeam } from "../keys/chosen_team.ts";
import type { Api } from "./api.ts";

/** A team with what it may have and what it has. */
export interface Team extends TeamRow {
  limits: TeamLimits;
  use: TeamUse;
}

const ADMINS_ONLY = "only an administrator changes teams";

/** Makes a team. @throws TorporError `permission_denied`; `already_exists` (field `name`). */
export async function createTeam(api: Api, caller: Caller, input: z.output<typeof createTeamInput>): Promise<Team> {
  requireAdmin(caller, ADMINS_ONLY);
  const team = await insertTeam(api.database, { name: input.name, limits: toLimits(input.limits) });
  caller.call.target = team.id;
  return (await described(api, [team]))[0]!;
}

/** A team that the caller may see. @throws TorporError `team_not_found`. */
export async function getTeam(api: Api, caller: Caller, id: string): Promise<Team> {
  const team = await queryTeam(api.database.sql, chosenTeam(caller, id));
  if (!team || team.deletedAt !== null) throw new TorporError("team_not_found", `no team ${id}`);
  return (await described(api, [team]))[0]!;
}

/** All teams for an administrator, else the caller's own. */
export async function listTeams(api: Api, caller: Caller): Promise<Team[]> {
  if (!caller.admin) return [await getTeam(api, caller, caller.teamId)];
  return await described(api, await queryTeams(api.database.sql));
}

/**
 * Changes a team's name and limits. What it has beyond a new limit stays.
 * @throws TorporError `permission_denied`; `team_not_found`; `already_exists` (field `name`).
 */
export async function updateTeam(
  api: Api,
  caller: Caller,
  id: string,
  input: z.output<typeof updateTeamInput>,
): Promise<Team> {
  requireAdmin(caller, ADMINS_ONLY);
  const team = await changeTeam(api.database, id, { name: input.name, limits: toLimits(input.limits) });
  return (await described(api, [team]))[0]!;
}

/**
 * Deletes a team that has nothing any more, and revokes its keys.
 * @throws TorporError `permission_denied`; `team_not_found`; `conflict` with the counts while it has sandboxes or
 * snapshots, and for the team that the administrator acts for.
 */
export async function deleteTeam(api: Api, caller: Caller, id: string): Promise<void> {
  requireAdmin(caller, ADMINS_ONLY);
  if (id === DEFAULT_TEAM_ID) throw new TorporError("conflict", "the default team cannot be deleted");
  await removeTeam(api.database, id);
}

async function described(api: Api, teams: TeamRow[]): Promise<Team[]> {
  const ids = teams.map(({ id }) => id);
  const [limits, use] = await Promise.all([
    getTeamLimits(api.database.sql, ids),
    countTeamUse(api.database.sql, ids),
  ]);
  return teams.map((team) => ({ ...team, limits: limits.get(team.id)!, use: use.get(team.id)! }));
}

/** Only what was named. */
function toLimits(input: z.output<typeof teamLimitsInput>): Partial<TeamLimits> {
  const limits: Partial<TeamLimits> = {
    requestsPerS: input.requests_per_s,
    maxSandboxes: input.max_sandboxes,
    maxRunningSandboxes: input.max_running_sandboxes,
    maxVcpus: input.max_vcpus,
    maxMemoryMb: input.max_memory_mb,
    maxDiskMb: input.max_disk_mb,
    maxSnapshots: input.max_snapshots,
    maxStoredBytes: input.max_stored_bytes,
  };
  return Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit !== undefined));
}
