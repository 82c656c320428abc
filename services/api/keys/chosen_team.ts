import { TorporError } from "@torpor/errors";
import type { Caller } from "./caller.ts";

/**
 * The team that a call is about: the caller's own unless an administrator names another.
 * @throws TorporError `team_not_found` for another team's, whether it exists or not.
 */
export function chosenTeam({ teamId, admin }: Caller, named: string | undefined): string {
  if (named === undefined || named === teamId || admin) return named ?? teamId;
  throw new TorporError("team_not_found", `no team ${named}`);
}
