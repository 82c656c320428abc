import { z } from "@hono/zod-openapi";
import type { AuditRow } from "@torpor/db";

export const auditEntryView = z.object({
  request_id: z.string().openapi({ description: "`x-request-id` of the answer." }),
  team_id: z.string(),
  key_id: z.string().openapi({ description: "`internal`: the administrator." }),
  action: z.string().openapi({ example: "sandbox.pause" }),
  target: z.string().nullable().openapi({ description: "Id or name of what it was about." }),
  code: z.string().openapi({ description: "`ok`, or the error code of the answer." }),
  trace_id: z.string().nullable(),
  address: z.string().nullable().openapi({ description: "Where the connection came from." }),
  created_at: z.iso.datetime(),
}).openapi("AuditEntry");

export const auditPageView = z.object({
  entries: z.array(auditEntryView),
  next_cursor: z.string().nullable().openapi({ description: "`cursor` of the next page; null on the last." }),
}).openapi("AuditPage");

/** An entry as the REST API shows it. */
export function viewAuditEntry(row: AuditRow): z.input<typeof auditEntryView> {
  return {
    request_id: row.id,
    team_id: row.teamId,
    key_id: row.keyId,
    action: row.action,
    target: row.target || null,
    code: row.code,
    trace_id: row.traceId || null,
    address: row.address || null,
    created_at: row.createdAt.toISOString(),
  };
}
