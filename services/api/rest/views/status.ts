import { z } from "@hono/zod-openapi";
import type { GetStatusResponse } from "@torpor/proto/reconciler";
import type { Answered, Status } from "../../handlers/status.ts";
import { hostView, viewHost } from "./host.ts";
import { isoTime } from "./time.ts";

const reconcilerView = z.object({
  available: z.boolean(),
  error_code: z.string().optional().openapi({ description: "Why it did not answer." }),
  leader: z.boolean().optional(),
  passes: z.int().optional(),
  last_pass_at: z.iso.datetime().nullable().optional(),
  last_pass_ms: z.int().optional(),
  repairs_by_kind: z.record(z.string(), z.int()).optional(),
}).openapi("ReconcilerStatus");

export const statusView = z.object({
  sandboxes: z.record(z.string(), z.int()).openapi({ description: "How many the team has, by state." }),
  webhooks: z.object({
    webhooks: z.int(),
    failing: z.int().openapi({ description: "Whose last attempt failed." }),
    disabled: z.int(),
    pending: z.int().openapi({ description: "Events that wait to be delivered." }),
  }).openapi({ description: "How the team's webhooks stand." }),
  hosts: z.array(hostView),
  scheduler: z.object({ available: z.boolean(), error_code: z.string().optional() }),
  reconciler: reconcilerView.nullable().openapi({ description: "null when none was configured." }),
}).openapi("Status");

/** How the deployment stands. */
export function viewStatus(status: Status): z.input<typeof statusView> {
  return {
    sandboxes: Object.fromEntries(Object.entries(status.sandboxes)),
    webhooks: status.webhooks,
    hosts: "answer" in status.hosts ? status.hosts.answer.map(viewHost) : [],
    scheduler: "answer" in status.hosts ? { available: true } : unavailable(status.hosts.errorCode),
    reconciler: status.reconciler === undefined ? null : viewReconciler(status.reconciler),
  };
}

function viewReconciler(reconciler: Answered<GetStatusResponse>): z.input<typeof reconcilerView> {
  if ("errorCode" in reconciler) return unavailable(reconciler.errorCode);
  const { leader, passes, lastPassUnixMs, lastPassMs, repairsByKind } = reconciler.answer;
  const repairs = Object.entries(repairsByKind).map(([kind, count]) => [kind, Number(count)]);
  return {
    available: true,
    leader,
    passes: Number(passes),
    last_pass_at: lastPassUnixMs === 0n ? null : isoTime(lastPassUnixMs),
    last_pass_ms: Number(lastPassMs),
    repairs_by_kind: Object.fromEntries(repairs),
  };
}

function unavailable(errorCode: string) {
  return { available: false, error_code: errorCode };
}
