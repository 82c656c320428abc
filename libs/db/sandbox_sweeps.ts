import { named, type Queryable } from "./database.ts";
import { type SandboxRow, sandboxRows } from "./sandboxes.ts";

/**
 * Running sandboxes whose idle timeout ended more than `marginMs` ago, locked until the transaction ends. Rows that
 * another transaction holds are left for the next sweep.
 */
export async function lockIdleSandboxes(sql: Queryable, marginMs: number, limit: number): Promise<SandboxRow[]> {
  return await sandboxRows("lock_idle_sandboxes", () =>
    sql`
    select * from sandboxes
    where state = 'running' and timeout_sec > 0
      and last_active_at < now() - timeout_sec * interval '1 second' - ${marginMs}::float8 * interval '1 millisecond'
    order by last_active_at
    limit ${limit}
    for update skip locked`);
}

/** True when {@linkcode lockIdleSandboxes} would find any. */
export async function hasIdleSandboxes(sql: Queryable, marginMs: number): Promise<boolean> {
  const rows = await named("has_idle_sandboxes", () =>
    sql`
    select from sandboxes
    where state = 'running' and timeout_sec > 0
      and last_active_at < now() - timeout_sec * interval '1 second' - ${marginMs}::float8 * interval '1 millisecond'
    limit 1`);
  return rows.length > 0;
}
