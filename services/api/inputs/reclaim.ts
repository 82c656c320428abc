import { z } from "@hono/zod-openapi";
import type { ReclaimCaps } from "@torpor/db";

/** No step is worth a longer pause. */
const MAX_STEP_MS = 60_000;

const cap = z.int().min(0).max(MAX_STEP_MS).default(0);

/** Upper limits of what the guest does before a pause. */
export const reclaimCaps = z.strictObject({
  fstrim_ms: cap,
  sync_ms: cap,
  drop_caches_ms: cap,
  compact_memory_ms: cap,
}).openapi("ReclaimCaps", {
  description: "What the guest does before a pause so that it becomes smaller: milliseconds at most per step; 0: off.",
});

/** As the journal and the host have them. */
export function toReclaimCaps(input: z.output<typeof reclaimCaps> | undefined): ReclaimCaps | undefined {
  return input && {
    fstrimMs: input.fstrim_ms,
    syncMs: input.sync_ms,
    dropCachesMs: input.drop_caches_ms,
    compactMemoryMs: input.compact_memory_ms,
  };
}
