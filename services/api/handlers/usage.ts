import { getTeam, getUsage as queryUsage, storedBytesOfTeam, type TeamStorage, type UsageDay } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { z } from "zod";
import type { usageInput } from "../inputs/team.ts";
import type { Caller } from "../keys/caller.ts";
import { chosenTeam } from "../keys/chosen_team.ts";
import type { Api } from "./api.ts";

const DAY_MS = 86_400_000;

/** Days that are shown where the caller does not say. */
const DEFAULT_DAYS = 30;

/** Two years. */
const MAX_DAYS = 732;

/** What a team has used. */
export interface Usage {
  teamId: string;
  /** The first and the last day, `2027-01-31`. */
  from: string;
  to: string;
  days: UsageDay[];
  /** What is stored for it now. */
  stored: TeamStorage;
}

/**
 * What a team has used on each day of UTC, up to this moment, and what is stored for it now.
 * @throws TorporError `invalid_argument` (field `from`), `team_not_found`.
 */
export async function getUsage(api: Api, caller: Caller, input: z.output<typeof usageInput>): Promise<Usage> {
  const teamId = chosenTeam(caller, input.team_id);
  if (!await getTeam(api.database.sql, teamId)) throw new TorporError("team_not_found", `no team ${teamId}`);
  const to = input.to ?? dayOf(Date.now());
  const from = input.from ?? dayOf(Date.parse(to) - (DEFAULT_DAYS - 1) * DAY_MS);
  const days = (Date.parse(to) - Date.parse(from)) / DAY_MS + 1;
  if (days < 1 || days > MAX_DAYS) {
    throw new TorporError("invalid_argument", `from must be at most ${MAX_DAYS} days before to, and not after it`, {
      field: "from",
    });
  }
  const { sql } = api.database;
  const [used, stored] = await Promise.all([queryUsage(sql, teamId, from, to), storedBytesOfTeam(sql, teamId)]);
  return { teamId, from, to, days: used, stored };
}

function dayOf(unixMs: number): string {
  return new Date(unixMs).toISOString().slice(0, 10);
}
