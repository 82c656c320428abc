import { readCursor, writeCursor } from "./cursor.ts";
import { named, type Queryable } from "./database.ts";
import { type SandboxRow, sandboxRows, type SandboxState } from "./sandboxes.ts";

/** What {@linkcode listSandboxes} lists. */
export interface SandboxFilter {
  /** Empty or absent: all but deleted. */
  states?: readonly SandboxState[];
  /** Only sandboxes that have all of these. */
  metadata?: Record<string, string>;
  /** At most this many rows. Default 100. */
  limit?: number;
  /** `nextCursor` of the page before. */
  cursor?: string;
}

/** One page of sandboxes, newest first. */
export interface SandboxPage {
  sandboxes: SandboxRow[];
  /** "" on the last page. */
  nextCursor: string;
}

/**
 * A page of a team's sandboxes, newest first; rows created meanwhile neither shift nor repeat the next page.
 * @throws `invalid_argument` (field `cursor`).
 */
export async function listSandboxes(sql: Queryable, teamId: string, filter: SandboxFilter = {}): Promise<SandboxPage> {
  const limit = filter.limit ?? 100;
  const after = filter.cursor ? readCursor(filter.cursor) : undefined;
  const states = filter.states?.length ? [...filter.states] : undefined;
  const rows = await sandboxRows("list_sandboxes", () =>
    sql`
    select * from sandboxes
    where team_id = ${teamId}
      and ${states ? sql`state = any(${states}::text[])` : sql`state <> 'deleted'`}
      ${filter.metadata ? sql`and metadata <> '{}' and metadata @> ${sql.json(filter.metadata)}` : sql``}
      ${after ? sql`and (created_at, id) < (${after.createdAt}::timestamptz, ${after.id})` : sql``}
    order by created_at desc, id desc
    limit ${limit + 1}`);
  const sandboxes = rows.slice(0, limit);
  const last = sandboxes.at(-1);
  return { sandboxes, nextCursor: rows.length > limit && last ? writeCursor(last) : "" };
}

/** How many sandboxes there are in each state that has any, deleted ones excluded. */
export async function countSandboxesByState(
  sql: Queryable,
  teamId?: string,
): Promise<Partial<Record<SandboxState, number>>> {
  const rows = await named("count_sandboxes_by_state", () =>
    sql<{ state: SandboxState; count: number }[]>`
    select state, count(*)::int as count from sandboxes
    where state <> 'deleted' ${teamId === undefined ? sql`` : sql`and team_id = ${teamId}`}
    group by state`);
  return Object.fromEntries(rows.map((row) => [row.state, row.count]));
}

/** These sandboxes, whatever their team and state, in the order of their ids. */
export async function getSandboxes(sql: Queryable, ids: readonly string[]): Promise<SandboxRow[]> {
  return await sandboxRows(
    "get_sandboxes",
    () => sql`select * from sandboxes where id = any(${[...ids]}::text[]) order by id`,
  );
}
