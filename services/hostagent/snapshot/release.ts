import { log } from "@torpor/telemetry";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";

/**
 * Removes generations that a new one has replaced: all of a generation that nothing refers to any more, and all but
 * `memory.data` of one that the new table still reads. The manifest goes first: a generation without one can never be
 * taken for the newest.
 * @param older generations before the new one. @param needed the sources of the new generation's table.
 */
export async function releaseGenerations(
  layout: Layout,
  older: Iterable<string>,
  needed: ReadonlySet<string>,
): Promise<void> {
  for (const snapshotId of older) {
    try {
      await releaseGeneration(layout, snapshotId, needed.has(snapshotId));
    } catch (error) {
      // Space is lost until the sweep at the next start, nothing else.
      log("warn", "generation_not_released", { snapshot_id: snapshotId }, error);
    }
  }
}

async function releaseGeneration(layout: Layout, snapshotId: string, keepData: boolean): Promise<void> {
  const paths = layout.snapshot(snapshotId);
  await removeIfPresent(paths.manifest);
  if (!keepData) return await removeIfPresent(paths.directory);
  for (const path of [paths.disk, paths.state, paths.memoryHeader]) await removeIfPresent(path);
}
