import { named, type Queryable } from "./database.ts";

/** What became of a request for a token. */
export interface TokenAnswer {
  allowed: boolean;
  /** When there will be one, seconds; 0 when there was. */
  retryAfterSec: number;
}

/**
 * Takes one token from a team's bucket, which holds as many as flow in during a second. The bucket is a row, so that
 * all api processes share it.
 * @param perS tokens that flow in, a second.
 */
export async function takeToken(sql: Queryable, teamId: string, perS: number): Promise<TokenAnswer> {
  const filled = sql`least(${perS}::float8, team_buckets.tokens
    + ${perS}::float8 * greatest(0, extract(epoch from clock_timestamp() - team_buckets.filled_at)::float8))`;
  const rows = await named("take_token", () =>
    sql<{ allowed: boolean; tokens: number }[]>`
    insert into team_buckets (team_id, tokens, filled_at, allowed)
    values (${teamId}, ${perS}::float8 - 1, clock_timestamp(), true)
    on conflict (team_id) do update set
      tokens = ${filled} - case when ${filled} >= 1 then 1 else 0 end,
      allowed = ${filled} >= 1,
      filled_at = clock_timestamp()
    returning allowed, tokens`);
  const { allowed, tokens } = rows[0]!;
  return { allowed, retryAfterSec: allowed ? 0 : Math.max(0, 1 - tokens) / perS };
}
