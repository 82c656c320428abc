import { TorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";
import type { Manifest } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { namesIn, readIfPresent, removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { readDiskTable, readManifest, readParentManifest, readTable } from "./committed.ts";
import { isSpared, SnapshotReferences } from "./references.ts";
import { releaseUnreferenced } from "./release.ts";
import type { StoredBytes } from "./stored_bytes.ts";
import { readsWithoutManifest, type TableReads } from "./table_reads.ts";
import type { VerifiedFile } from "./verify_data.ts";

/** A committed snapshot and what it reads. */
export interface FoundSnapshot extends TableReads {
  manifest: Manifest;
  /** A table is damaged or missing. Without this, `sources` are unknown because it could not be read for another reason. */
  tableDamaged?: boolean;
  /** What verifications have found of it, and of the data that it reads, damaged or missing. */
  damage?: readonly VerifiedFile[];
  /** Of a snapshot that belongs to no sandbox: what is stored for it, once that was measured. */
  stored?: StoredBytes;
}

/** Whether a snapshot is known to be damaged: nobody must be told that it can be used. */
export function isDamaged({ tableDamaged = false, damage = [] }: FoundSnapshot): boolean {
  return tableDamaged || damage.length > 0;
}

/** What a sweep found. */
export interface SweptSnapshots {
  /** The newest generation of each sandbox, by sandbox id. */
  newest: Map<string, FoundSnapshot>;
  /** Snapshots that belong to no sandbox, by their own id. */
  kept: Map<string, FoundSnapshot>;
  /** What running VMs were resumed from, as far as it is still there, by its own id. */
  parents: Map<string, FoundSnapshot>;
  /** Snapshots whose manifests cannot be read: nobody knows whose they are. By id, with what their tables read. */
  damaged: Map<string, TableReads>;
}

/**
 * Cleans up after an agent that was killed, before anything runs: staged snapshots are dropped, replaced generations and
 * deleted snapshots are released. A newest generation and a kept snapshot are never deleted, whether a sandbox is known or not.
 * @param parentIds what VMs that may be running were resumed from.
 */
export async function sweepSnapshots(layout: Layout, parentIds: Iterable<string> = []): Promise<SweptSnapshots> {
  for (const name of await namesIn(layout.staging)) await removeIfPresent(`${layout.staging}/${name}`);
  const ids = (await namesIn(layout.snapshots)).filter(isId);
  const { manifests, damaged } = await readManifests(layout, ids);
  const swept: SweptSnapshots = { newest: new Map(), kept: new Map(), parents: new Map(), damaged };
  for (const manifest of newestOf(manifests.values())) {
    swept.newest.set(manifest.sandbox_id, await found(layout, manifest));
  }
  for (const manifest of manifests.values()) {
    if (manifest.kind === "kept") swept.kept.set(manifest.snapshot_id, await found(layout, manifest));
  }
  for (const id of new Set(parentIds)) {
    try {
      if (ids.includes(id)) swept.parents.set(id, await found(layout, await readParentManifest(layout, id)));
    } catch (error) {
      log("error", "snapshot_unreadable", { snapshot_id: id }, error);
      damaged.set(id, await readsWithoutManifest(layout, id));
    }
  }
  await releaseUnneeded(layout, ids, swept, manifests);
  return swept;
}

async function readManifests(
  layout: Layout,
  ids: string[],
): Promise<{ manifests: Map<string, Manifest>; damaged: Map<string, TableReads> }> {
  const manifests = new Map<string, Manifest>();
  const damaged = new Map<string, TableReads>();
  for (const id of ids) {
    if (await readIfPresent(layout.snapshot(id).manifest) === undefined) continue;
    try {
      manifests.set(id, await readManifest(layout, id));
    } catch (error) {
      log("error", "snapshot_unreadable", { snapshot_id: id }, error);
      damaged.set(id, await readsWithoutManifest(layout, id));
    }
  }
  return { manifests, damaged };
}

function newestOf(manifests: Iterable<Manifest>): Manifest[] {
  const newest = new Map<string, Manifest>();
  for (const manifest of manifests) {
    if (manifest.kind !== "generation") continue;
    const other = newest.get(manifest.sandbox_id);
    if (!other || other.generation < manifest.generation) newest.set(manifest.sandbox_id, manifest);
  }
  return [...newest.values()];
}

/** A snapshot on disk with what its tables read; a damaged table is logged, and its sources are unknown. */
export async function found(layout: Layout, manifest: Manifest): Promise<FoundSnapshot> {
  try {
    const { sources } = await readTable(layout, manifest);
    const disk = await readDiskTable(layout, manifest);
    return disk ? { manifest, sources, diskSources: disk.sources } : { manifest, sources };
  } catch (error) {
    log("error", "snapshot_unreadable", { snapshot_id: manifest.snapshot_id }, error);
    const codes = ["snapshot_corrupt", "snapshot_missing"];
    return { manifest, sources: undefined, tableDamaged: error instanceof TorporError && codes.includes(error.code) };
  }
}

async function releaseUnneeded(
  layout: Layout,
  ids: string[],
  { newest, kept, parents, damaged }: SweptSnapshots,
  manifests: Map<string, Manifest>,
): Promise<void> {
  const references = new SnapshotReferences();
  for (const roots of [newest, kept, parents]) references.watch(() => roots.values());
  for (const [id, reads] of damaged) references.noteDamaged(id, reads);
  const current = references.current();
  const candidates = ids.filter((id) => !isSpared(manifests.get(id), current));
  try {
    await releaseUnreferenced(layout, candidates, current);
  } catch (error) {
    log("warn", "snapshots_not_released", {}, error);
  }
}
