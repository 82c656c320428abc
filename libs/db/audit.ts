import { readCursor, writeCursor } from "./cursor.ts";
import { named, type Queryable } from "./database.ts";

/** One call that changed something, or was refused. Never what it carried. */
export interface AuditRow {
  /** The request's id. */
  id: string;
  teamId: string;
  /** The API key, or "internal" for the administrator. */
  keyId: string;
  /** What was asked for: `sandbox.pause`. */
  action: string;
  /** The id or name of what it was about; "": nothing yet. */
  target: string;
  /** "ok", or the error code of the answer. */
  code: string;
  /** "" without a trace. */
  traceId: string;
  /** Where the connection came from; "" for a unix socket. */
  address: string;
  createdAt: Date;
}

/** Writes entries, all or none; those that are there already are left. */
export async function insertAuditRows(sql: Queryable, entries: readonly AuditRow[]): Promise<void> {
  if (entries.length === 0) return;
  const column = (read: (entry: AuditRow) => string) => entries.map(read);
  await named("insert_audit_rows", () =>
    sql`
    insert into audit_log (id, team_id, key_id, action, target, code, trace_id, address, created_at)
    select * from unnest(${column((e) => e.id)}::text[], ${column((e) => e.teamId)}::text[],
      ${column((e) => e.keyId)}::text[], ${column((e) => e.action)}::text[], ${column((e) => e.target)}::text[],
      ${column((e) => e.code)}::text[], ${column((e) => e.traceId)}::text[], ${column((e) => e.address)}::text[],
      ${column((e) => e.createdAt.toISOString())}::timestamptz[])
    on conflict do nothing`);
}

/** What {@linkcode listAuditRows} lists. */
export interface AuditFilter {
  /** Absent: all teams. */
  teamId?: string;
  /** Only calls about this. */
  target?: string;
  limit?: number;
  /** `nextCursor` of the page before. */
  cursor?: string;
}

/** One page of the audit log, newest first. */
export interface AuditPage {
  entries: AuditRow[];
  /** "" on the last page. */
  nextCursor: string;
}

/** A page of the audit log, newest first. @throws `invalid_argument` (field `cursor`). */
export async function listAuditRows(sql: Queryable, filter: AuditFilter): Promise<AuditPage> {
  const { teamId, target, limit = 100, cursor } = filter;
  const after = cursor ? readCursor(cursor) : undefined;
  const rows = await named("list_audit_rows", () =>
    sql<AuditRow[]>`
    select * from audit_log where true
      ${teamId === undefined ? sql`` : sql`and team_id = ${teamId}`}
      ${target === undefined ? sql`` : sql`and target = ${target}`}
      ${after ? sql`and (created_at, id) < (${after.createdAt}::timestamptz, ${after.id})` : sql``}
    order by created_at desc, id desc
    limit ${limit + 1}`);
  const entries = rows.slice(0, limit);
  const last = entries.at(-1);
  return { entries, nextCursor: rows.length > limit && last ? writeCursor(last) : "" };
}

/** Forgets up to `limit` entries that are older than `retentionMs`. @returns how many. */
export async function deleteOldAuditRows(sql: Queryable, retentionMs: number, limit: number): Promise<number> {
  const rows = await named("delete_old_audit_rows", () =>
    sql`
    delete from audit_log where id in (
      select id from audit_log where created_at < now() - ${retentionMs}::float8 * interval '1 millisecond'
      order by created_at, id limit ${limit})
    returning id`);
  return rows.length;
}
