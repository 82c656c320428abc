import { isId } from "@torpor/ids";
import type { Manifest } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { namesIn, readIfPresent, removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { readManifest, readTable } from "./committed.ts";
import { releaseGenerations } from "./release.ts";

/** A sandbox's newest snapshot. */
export interface FoundSnapshot {
  manifest: Manifest;
  /** Generations that its table reads; undefined when the table is damaged. */
  sources: string[] | undefined;
}

/**
 * Cleans up after an agent that was killed, before anything runs: staged snapshots are dropped, replaced generations are
 * released. A committed newest generation is never deleted, whether its sandbox is known or not.
 * @returns the newest snapshot of each sandbox, by sandbox id.
 */
export async function sweepSnapshots(layout: Layout): Promise<Map<string, FoundSnapshot>> {
  for (const name of await namesIn(layout.staging)) await removeIfPresent(`${layout.staging}/${name}`);
  const ids = (await namesIn(layout.snapshots)).filter(isId);
  const manifests = new Map<string, Manifest>();
  const unreadable = new Set<string>();
  for (const id of ids) {
    if (await readIfPresent(layout.snapshot(id).manifest) === undefined) continue;
    try {
      manifests.set(id, await readManifest(layout, id));
    } catch (error) {
      log("error", "snapshot_unreadable", { snapshot_id: id }, error);
      unreadable.add(id);
    }
  }
  const newest = new Map<string, FoundSnapshot>();
  for (const manifest of newestOf(manifests.values())) {
    newest.set(manifest.sandbox_id, { manifest, sources: await readSources(layout, manifest) });
  }
  await releaseUnneeded(layout, ids, newest, unreadable);
  return newest;
}

function newestOf(manifests: Iterable<Manifest>): Manifest[] {
  const newest = new Map<string, Manifest>();
  for (const manifest of manifests) {
    const other = newest.get(manifest.sandbox_id);
    if (!other || other.generation < manifest.generation) newest.set(manifest.sandbox_id, manifest);
  }
  return [...newest.values()];
}

async function readSources(layout: Layout, manifest: Manifest): Promise<string[] | undefined> {
  try {
    return (await readTable(layout, manifest)).sources;
  } catch (error) {
    log("error", "snapshot_unreadable", { snapshot_id: manifest.snapshot_id }, error);
    return undefined;
  }
}

async function releaseUnneeded(
  layout: Layout,
  ids: string[],
  newest: Map<string, FoundSnapshot>,
  unreadable: Set<string>,
): Promise<void> {
  const found = [...newest.values()];
  // Somebody's table cannot be read, so what it needs is not known: nothing is released.
  if (unreadable.size > 0 || found.some(({ sources }) => sources === undefined)) return;
  const kept = new Set(found.map(({ manifest }) => manifest.snapshot_id));
  const needed = new Set(found.flatMap(({ sources }) => sources ?? []));
  await releaseGenerations(layout, ids.filter((id) => !kept.has(id)), needed);
}
