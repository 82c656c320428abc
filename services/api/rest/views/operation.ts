import { z } from "@hono/zod-openapi";
import { operationTraceId } from "@torpor/db";
import type { ShownOperation } from "../../handlers/operations.ts";
import { idText } from "../../inputs/text.ts";
import { hookView, viewHook } from "./sandbox.ts";

export const operationView = z.object({
  operation_id: idText,
  sandbox_id: idText,
  kind: z.enum(["create", "pause", "resume", "delete", "snapshot", "fork"]),
  state: z.enum(["running", "succeeded", "failed"]),
  step: z.string().openapi({ description: "The last step that is known to be done." }),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  created_at: z.iso.datetime(),
  finished_at: z.iso.datetime().nullable(),
  trace_id: z.string().nullable(),
  snapshot_id: z.string().nullable().openapi({ description: "snapshot, fork: the one that it takes." }),
  hooks: z.array(hookView).openapi({ description: "pause: what was done in the guest." }),
  child_ids: z.array(idText).openapi({
    description: "fork: the sandboxes that it makes, all or none. They run once it has succeeded.",
  }),
}).openapi("Operation");

export const operationListView = z.object({ operations: z.array(operationView) }).openapi("OperationList");

/** An entry of the operations journal. */
export function viewOperation(row: ShownOperation): z.input<typeof operationView> {
  return {
    operation_id: row.id,
    sandbox_id: row.sandboxId,
    kind: row.kind,
    state: row.state,
    step: row.step,
    error: row.errorCode === "" ? null : { code: row.errorCode, message: row.errorMessage },
    created_at: row.createdAt.toISOString(),
    finished_at: row.finishedAt?.toISOString() ?? null,
    trace_id: operationTraceId(row) || null,
    snapshot_id: row.snapshotId,
    hooks: (row.result.hooks ?? []).map(viewHook),
    child_ids: row.childIds,
  };
}
