import { z } from "@hono/zod-openapi";
import { idText, plainText } from "./text.ts";

/** The id of a team: as all ids, but for the one that exists from the start. */
export const teamId = z.union([z.literal("default"), idText]).openapi({ type: "string", example: "default" });

const teamName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 characters of a-z, 0-9 and "-"')
  .openapi({ example: "research" });

const count = z.int().min(0).max(1_000_000_000).nullable().optional();

/** What a team may have; null: no limit. */
export const teamLimitsInput = z.strictObject({
  requests_per_s: z.int().min(1).max(1_000_000).nullable().optional()
    .openapi({ description: "Calls a second, on all api processes together; as many at once." }),
  max_sandboxes: count.openapi({ description: "Sandboxes that are neither failed nor deleted." }),
  max_running_sandboxes: count.openapi({ description: "Those that have a VM, or are about to." }),
  max_vcpus: count.openapi({ description: "vCPUs of running sandboxes." }),
  max_memory_mb: count.openapi({ description: "RAM of running sandboxes, MiB." }),
  max_disk_mb: count.openapi({ description: "Disks of all sandboxes, and what snapshots store, MiB." }),
  max_snapshots: count.openapi({ description: "Snapshots that belong to no sandbox." }),
  max_stored_bytes: z.int().min(0).nullable().optional()
    .openapi({ description: "What hosts store for it, as they have measured it. A pause is never refused." }),
}).openapi("TeamLimits", { description: "Null: no limit. What is absent stays." });

export const createTeamInput = z.strictObject({ name: teamName, limits: teamLimitsInput.default({}) })
  .openapi("CreateTeam");

export const updateTeamInput = z.strictObject({ name: teamName.optional(), limits: teamLimitsInput.default({}) })
  .openapi("UpdateTeam");

/** Days of UTC, both inclusive. */
export const usageInput = z.strictObject({
  team_id: teamId.optional(),
  from: z.iso.date().optional(),
  to: z.iso.date().optional(),
});

export const auditInput = z.strictObject({
  team_id: teamId.optional(),
  target: plainText(200, 1).optional(),
  limit: z.int().min(1).max(1000).default(100),
  cursor: z.string().max(200).default(""),
});
