import { z } from "@hono/zod-openapi";
import { type KeptSnapshotRow, SNAPSHOT_KINDS, SNAPSHOT_STATES } from "@torpor/db";
import { idText } from "../../inputs/text.ts";
import type { Caller } from "../../keys/caller.ts";
import { snapshotView as sizesView } from "./sandbox.ts";

export const snapshotView = z.object({
  snapshot_id: idText,
  name: z.string(),
  kind: z.enum(SNAPSHOT_KINDS),
  platform: z.boolean().openapi({ description: "Every team may spawn from it." }),
  state: z.enum(SNAPSHOT_STATES),
  reason: z.string().optional().openapi({ description: "Why, when failed: an error code." }),
  sandbox_id: z.string().nullable().openapi({
    description: "The sandbox it was taken from, which may be gone; null when that was another team's.",
  }),
  host_id: z.string(),
  template: z.string(),
  vcpus: z.int(),
  memory_mb: z.int(),
  disk_size_mb: z.int(),
  sizes: sizesView.omit({ snapshot_id: true }).extend({
    stopped_us: z.int().openapi({
      description: "How long the vCPUs of the source stood still, microseconds; 0 when it was paused.",
    }),
  }).nullable().openapi({ description: "Null until it is ready." }),
  created_at: z.iso.datetime(),
  expires_at: z.iso.datetime().nullable().openapi({ description: "When it is deleted by itself; null: never." }),
}).openapi("Snapshot");

export const snapshotPageView = z.object({
  snapshots: z.array(snapshotView),
  next_cursor: z.string().nullable().openapi({ description: "`cursor` of the next page; null on the last." }),
}).openapi("SnapshotPage");

/** A snapshot as the REST API shows it to a caller. */
export function viewSnapshot(row: KeptSnapshotRow, caller: Caller): z.input<typeof snapshotView> {
  const { sizes } = row;
  return {
    snapshot_id: row.id,
    name: row.name,
    kind: row.kind,
    platform: row.platform,
    state: row.state,
    ...(row.reason === "" ? {} : { reason: row.reason }),
    sandbox_id: row.teamId === caller.teamId ? row.sandboxId : null,
    host_id: row.hostId,
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    disk_size_mb: row.diskSizeMb,
    sizes: sizes && {
      generation: sizes.generation,
      size_bytes: Number(sizes.sizeBytes),
      memory_bytes: Number(sizes.memoryBytes),
      disk_bytes: Number(sizes.diskBytes),
      pages_resident: Number(sizes.pagesResident),
      pages_dirty: Number(sizes.pagesDirty),
      pages_data: Number(sizes.pagesData),
      stopped_us: Number(sizes.stoppedUs),
    },
    created_at: row.createdAt.toISOString(),
    expires_at: row.expiresAt?.toISOString() ?? null,
  };
}
