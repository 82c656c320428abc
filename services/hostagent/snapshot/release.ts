import { removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { References, SnapshotReferences } from "./references.ts";
import type { FoundSnapshot } from "./sweep.ts";

/**
 * Gives back the disk of snapshots that something has just stopped referring to, and of the data that they read: all of
 * what nothing refers to any more, and all but `memory.data` of what some other table still reads.
 * @throws the first failure, after trying everything: call again, or leave it to the sweep at the next start.
 */
export async function releaseSnapshots(
  layout: Layout,
  references: SnapshotReferences,
  dropped: Iterable<FoundSnapshot | undefined>,
): Promise<void> {
  const candidates = new Set<string>();
  for (const snapshot of dropped) {
    if (!snapshot) continue;
    candidates.add(snapshot.manifest.snapshot_id);
    for (const source of snapshot.sources ?? []) candidates.add(source);
  }
  await releaseUnreferenced(layout, candidates, references.current());
}

/** As {@linkcode releaseSnapshots} for ids whose tables need not be known. */
export async function releaseUnreferenced(
  layout: Layout,
  candidates: Iterable<string>,
  references: References,
): Promise<void> {
  const failures: unknown[] = [];
  for (const snapshotId of candidates) {
    if (references.whole.has(snapshotId)) continue;
    await release(layout, snapshotId, references).catch((error) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
}

/** The manifest goes first: what has none can never be taken for a sandbox's newest generation, whatever is left of it. */
async function release(layout: Layout, snapshotId: string, { data, complete }: References): Promise<void> {
  const paths = layout.snapshot(snapshotId);
  await removeIfPresent(paths.manifest);
  // Some damaged table may still read it.
  if (!complete) return;
  if (!data.has(snapshotId)) return await removeIfPresent(paths.directory);
  const rest = [paths.deletedManifest, paths.disk, paths.state, paths.memoryHeader, paths.workingSet];
  for (const path of rest) await removeIfPresent(path);
}
