import { named, type Queryable } from "./database.ts";
import { type SandboxRow, sandboxRows } from "./sandboxes.ts";

/** Why sandboxes are changed that nobody asked to change. */
export type Sweep =
  /** Running, and unused for longer than `timeout_sec`. */
  | "idle"
  /** Paused for longer than `auto_delete_after_sec`. */
  | "stale"
  /** Its `ttl_sec` are over. */
  | "expired";

// Each expression is that of an index (sandboxes_idle, sandboxes_stale, sandboxes_expiry): only what is due is read.
const DUE_AT: Record<Sweep, string> = {
  idle: "(last_active_at at time zone 'UTC') + timeout_sec * interval '1 second'",
  stale: "(paused_at at time zone 'UTC') + auto_delete_after_sec * interval '1 second'",
  expired: "expires_at",
};

function due(sql: Queryable, sweep: Sweep, marginMs: number) {
  const at = sql.unsafe(DUE_AT[sweep]);
  const margin = sql`${marginMs}::float8 * interval '1 millisecond'`;
  switch (sweep) {
    case "idle":
      return sql`state = 'running' and timeout_sec > 0 and ${at} < (now() at time zone 'UTC') - ${margin}`;
    case "stale":
      return sql`state = 'paused' and auto_delete_after_sec > 0 and ${at} < now() at time zone 'UTC'`;
    case "expired":
      return sql`expires_at is not null and state not in ('deleting', 'deleted') and ${at} < now()
        and (on_ttl = 'delete' or state = 'running')`;
  }
}

/**
 * Which sweeps would find sandboxes.
 * @param idleMarginMs how much longer than its timeout a sandbox must have been idle: its host pauses it first.
 */
export async function findDueSweeps(sql: Queryable, idleMarginMs: number): Promise<Sweep[]> {
  const found = (sweep: Sweep) => sql`exists (select from sandboxes where ${due(sql, sweep, idleMarginMs)})`;
  const rows = await named("find_due_sweeps", () =>
    sql<Record<Sweep, boolean>[]>`
    select ${found("idle")} as idle, ${found("stale")} as stale, ${found("expired")} as expired`);
  return (["idle", "stale", "expired"] as const).filter((sweep) => rows[0]![sweep]);
}

/**
 * Up to `limit` sandboxes that a sweep is for, the longest due first, locked until the transaction ends. Rows that another
 * transaction holds are left for the next one.
 * @param idleMarginMs as of {@linkcode findDueSweeps}.
 */
export async function lockDueSandboxes(
  sql: Queryable,
  sweep: Sweep,
  idleMarginMs: number,
  limit: number,
): Promise<SandboxRow[]> {
  return await sandboxRows(`lock_${sweep}_sandboxes`, () =>
    sql`
    select * from sandboxes where ${due(sql, sweep, idleMarginMs)}
    order by ${sql.unsafe(DUE_AT[sweep])} limit ${limit} for update skip locked`);
}
