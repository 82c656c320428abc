import { type AuditPage, listAuditRows } from "@torpor/db";
import type { z } from "zod";
import type { auditInput } from "../inputs/team.ts";
import type { Caller } from "../keys/caller.ts";
import { chosenTeam } from "../keys/chosen_team.ts";
import type { Api } from "./api.ts";

/**
 * A page of the audit log, newest first: the team's own, all teams' for an administrator who names none.
 * @throws TorporError `invalid_argument` (field `cursor`), `team_not_found`.
 */
export async function listAuditEntries(
  api: Api,
  caller: Caller,
  input: z.output<typeof auditInput>,
): Promise<AuditPage> {
  const all = caller.admin && input.team_id === undefined;
  const teamId = all ? undefined : chosenTeam(caller, input.team_id);
  const { target, limit, cursor } = input;
  return await listAuditRows(api.database.sql, { teamId, target, limit, cursor });
}
