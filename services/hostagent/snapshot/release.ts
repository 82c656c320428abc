import { newId } from "@torpor/ids";
import { formatOrigin, originOf, parseManifest } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { namesIn, readIfPresent, removeIfPresent } from "../storage/durable_file.ts";
import type { Layout, SnapshotPaths } from "../storage/layout.ts";
import { isDiskRead, isMemoryRead, type References, type SnapshotReferences } from "./references.ts";
import type { FoundSnapshot } from "./sweep.ts";

/**
 * Gives back the disk of snapshots that something has just stopped referring to, and of the data that they read: all of
 * what nothing refers to any more, and all but the data of what some other table still reads.
 * @throws the first failure, after trying everything: call again, or leave it to a later collection.
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
    for (const source of [...snapshot.sources ?? [], ...snapshot.diskSources ?? []]) candidates.add(source);
  }
  await releaseUnreferenced(layout, candidates, references.current());
}

/**
 * Gives back the disk of a snapshot whose manifest cannot be read.
 * @returns false when it is not one that was noted as damaged.
 * @throws as {@linkcode releaseSnapshots}; it is then still noted.
 */
export async function releaseDamaged(
  layout: Layout,
  references: SnapshotReferences,
  snapshotId: string,
): Promise<boolean> {
  const reads = references.forgetDamaged(snapshotId);
  if (!reads) return false;
  const { sources = [], diskSources = [] } = reads;
  try {
    await releaseUnreferenced(layout, new Set([snapshotId, ...sources, ...diskSources]), references.current());
  } catch (error) {
    references.noteDamaged(snapshotId, reads);
    throw error;
  }
  return true;
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

/** The files of a snapshot without a manifest that nothing reads, by the references. */
export function unreadFiles(paths: SnapshotPaths, snapshotId: string, references: References): string[] {
  const { deletedManifest, state, memoryHeader, workingSet, newWorkingSet, diskHeader } = paths;
  const files = [deletedManifest, state, memoryHeader, workingSet, newWorkingSet, diskHeader];
  if (!isMemoryRead(references, snapshotId)) files.push(paths.memoryData, paths.memoryHash);
  if (!isDiskRead(references, snapshotId)) files.push(paths.disk, paths.diskSums, paths.diskHash, paths.diskData);
  return files;
}

/** The manifest goes first: what has none can never be taken for a sandbox's newest generation, whatever is left of it. */
async function release(layout: Layout, snapshotId: string, references: References): Promise<void> {
  const paths = layout.snapshot(snapshotId);
  const isRead = isMemoryRead(references, snapshotId) || isDiskRead(references, snapshotId);
  if (isRead) await keepOrigin(paths);
  await removeIfPresent(paths.manifest);
  if (!isRead) return await discard(layout, snapshotId);
  for (const path of unreadFiles(paths, snapshotId, references)) await removeIfPresent(path);
}

const DISCARDED = "discarded-";

/** Removes what could not be removed when it was released. What still cannot be is left to the next time. */
export async function removeDiscarded({ staging }: Layout): Promise<void> {
  for (const name of (await namesIn(staging)).filter((name) => name.startsWith(DISCARDED))) {
    await removeIfPresent(`${staging}/${name}`).catch((error) => log("warn", "discarded_not_removed", { name }, error));
  }
}

/** By another name first: whoever looks finds the directory whole or not at all. */
async function discard(layout: Layout, snapshotId: string): Promise<void> {
  const discarded = `${layout.staging}/${DISCARDED}${newId()}`;
  try {
    await Deno.mkdir(layout.staging, { recursive: true, mode: 0o700 });
    await Deno.rename(layout.snapshot(snapshotId).directory, discarded);
  } catch (error) {
    // Somebody else was faster.
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  await removeIfPresent(discarded);
}

/** Notes where data is from whose manifest goes. Nothing depends on it, so a full disk does not keep anything. */
async function keepOrigin(paths: SnapshotPaths): Promise<void> {
  try {
    const text = await readIfPresent(paths.manifest) ?? await readIfPresent(paths.deletedManifest);
    if (text === undefined || await readIfPresent(paths.origin) !== undefined) return;
    await Deno.writeTextFile(paths.origin, formatOrigin(originOf(parseManifest(text))), { mode: 0o600 });
  } catch (error) {
    log("warn", "origin_not_kept", { directory: paths.directory }, error);
  }
}
