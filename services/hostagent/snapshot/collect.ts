import { TorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";
import type { Manifest } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { isPresent, namesIn, statIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { readManifest } from "./committed.ts";
import {
  isDiskRead,
  isMemoryRead,
  isSpared,
  type References,
  referencesOf,
  type SnapshotReferences,
} from "./references.ts";
import { releaseUnreferenced, removeDiscarded, unreadFiles } from "./release.ts";
import type { SnapshotStore } from "./rewrite.ts";
import { found, type FoundSnapshot } from "./sweep.ts";
import { readsWithoutManifest } from "./table_reads.ts";

/** Data that was given back, or would be. */
export interface CollectedData {
  snapshotId: string;
  action: "unreferenced" | "compacted";
  bytes: number;
}

/**
 * Marks what the snapshots that stay need, and releases the rest. It may run beside any operation: what an operation is
 * making is staged or has a manifest, and what it reads is referred to.
 * @param dryRun tells what would go, and changes nothing.
 * While somebody's table cannot be read, what it needs is not known: all data stays then, but not what only a snapshot
 * itself would read.
 */
export async function collectUnreferenced(store: SnapshotStore, dryRun: boolean): Promise<CollectedData[]> {
  const { layout, references } = store;
  // What is needed now stays in this round, even if it is replaced meanwhile by something committed after the listing.
  const before = [...references.roots()];
  const ids = (await namesIn(layout.snapshots)).filter(isId);
  const unregistered = await unregisteredRoots(store, ids, before);
  const needed = referencesOf([...before, ...unregistered, ...references.roots()], references.unreadable);
  for (const { snapshotId, file, referencesKnown } of references.damaged()) {
    log("error", "snapshot_damaged", { snapshot_id: snapshotId, file, references_known: referencesKnown });
  }
  if (!dryRun) await removeDiscarded(layout);
  const collected: CollectedData[] = [];
  for (const snapshotId of ids) {
    if (needed.whole.has(snapshotId)) continue;
    const bytes = await unreadBytes(layout, snapshotId, needed);
    if (bytes === undefined) continue;
    if (!dryRun) await releaseUnreferenced(layout, [snapshotId], needed);
    collected.push({ snapshotId, action: "unreferenced", bytes });
  }
  return collected;
}

/**
 * Snapshots that are committed, but that nobody has registered yet: their operation is between the two. One that is older
 * than what its sandbox has is a rest of a release that was interrupted.
 */
async function unregisteredRoots(
  { layout, references }: SnapshotStore,
  ids: string[],
  roots: FoundSnapshot[],
): Promise<FoundSnapshot[]> {
  const whole = new Set(roots.map(({ manifest }) => manifest.snapshot_id));
  const newest = new Map<string, number>();
  for (const { manifest } of roots) {
    if (manifest.kind !== "generation") continue;
    newest.set(manifest.sandbox_id, Math.max(manifest.generation, newest.get(manifest.sandbox_id) ?? 0));
  }
  const known = referencesOf(roots, references.unreadable);
  const result: FoundSnapshot[] = [];
  for (const id of ids) {
    if (whole.has(id) || !await isPresent(layout.snapshot(id).manifest)) continue;
    const manifest = await readable(layout, references, id);
    if (!manifest) continue;
    const replaced = manifest.kind === "generation" && manifest.generation <= (newest.get(manifest.sandbox_id) ?? 0);
    if (!replaced || isSpared(manifest, known)) result.push(await found(layout, manifest));
  }
  return result;
}

/** Undefined when it has gone meanwhile, or cannot be read, which is noted. */
async function readable(
  layout: Layout,
  references: SnapshotReferences,
  snapshotId: string,
): Promise<Manifest | undefined> {
  if (references.unreadable.has(snapshotId)) return undefined;
  try {
    return await readManifest(layout, snapshotId);
  } catch (error) {
    if (!(error instanceof TorporError)) throw error;
    if (error.code === "snapshot_missing") return undefined;
    if (error.code !== "snapshot_corrupt") throw error;
    log("error", "snapshot_unreadable", { snapshot_id: snapshotId }, error);
    references.noteDamaged(snapshotId, await readsWithoutManifest(layout, snapshotId));
  }
}

/** Bytes on disk of what nothing reads; undefined when there is nothing of the kind. */
async function unreadBytes(layout: Layout, snapshotId: string, needed: References): Promise<number | undefined> {
  const paths = layout.snapshot(snapshotId);
  const isRead = isMemoryRead(needed, snapshotId) || isDiskRead(needed, snapshotId);
  const names = isRead ? unreadFiles(paths, snapshotId, needed) : await filesOf(paths.directory);
  if (isRead) names.push(paths.manifest);
  let bytes: number | undefined = isRead ? undefined : 0;
  for (const path of names) {
    const size = await freedBytes(path);
    if (size !== undefined) bytes = (bytes ?? 0) + size;
  }
  return bytes;
}

async function filesOf(directory: string): Promise<string[]> {
  return (await namesIn(directory)).map((name) => `${directory}/${name}`);
}

/** What removing a name gives back: nothing while the file has another one. Undefined when there is no such name. */
async function freedBytes(path: string): Promise<number | undefined> {
  const status = await statIfPresent(path);
  return status && (status.nlink === 1 ? (status.blocks ?? 0) * 512 : 0);
}
