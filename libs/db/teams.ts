import { named, type Queryable } from "./database.ts";

/** The team that exists from the first migration on. */
export const DEFAULT_TEAM_ID = "default";

/** Who owns sandboxes and keys. */
export interface TeamRow {
  id: string;
  name: string;
  createdAt: Date;
}

/** One team. */
export async function getTeam(sql: Queryable, id: string): Promise<TeamRow | undefined> {
  const rows = await named("get_team", () => sql<TeamRow[]>`select * from teams where id = ${id}`);
  return rows[0];
}
