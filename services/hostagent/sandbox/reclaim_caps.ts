import { z } from "zod";

/** More than a minute of one step is a mistake: the caller of a pause waits for all of them. */
export const MAX_RECLAIM_CAP_MS = 60_000;

const capMs = z.number().int().min(0).max(MAX_RECLAIM_CAP_MS).default(0);

/** Upper limits, ms, of what a guest does before a pause so that its snapshot becomes smaller; 0: that step is off. */
export const reclaimCapsSchema = z.strictObject({
  /** Tells the disk which blocks are free. */
  fstrim_ms: capMs,
  /** Writes dirty pages to the disk, so that they can be dropped. */
  sync_ms: capMs,
  /** Drops what the page cache holds. */
  drop_caches_ms: capMs,
  /**
   * Joins free pages to blocks that can be given back to the host. What is left of the time after that is for the wait until
   * they have been, two seconds after they were freed; where less is left, nobody waits.
   */
  compact_memory_ms: capMs,
});

/** See {@linkcode reclaimCapsSchema}. */
export type ReclaimCaps = z.infer<typeof reclaimCapsSchema>;

/** Nothing is done. */
export const NO_RECLAIM: ReclaimCaps = reclaimCapsSchema.parse({});
