import { diffDisk, type DiskDiff, openFile } from "@torpor/ffi";
import { encodeHeader, overlayTable } from "@torpor/snapshot";
import { removeIfPresent, statIfPresent, syncPath } from "../storage/durable_file.ts";
import { diskFiles } from "./committed.ts";
import { diskTable } from "./disk_image.ts";
import { rewriteSnapshot, type SnapshotStore } from "./rewrite.ts";
import type { FoundSnapshot } from "./sweep.ts";

/** Bytes that a difference must save at least. */
const MIN_SAVED_BYTES = 2 ** 20;

/** A snapshot with a whole disk, and one that stays anyway and whose disk is much the same. */
export interface DiskPair {
  snapshot: FoundSnapshot;
  base: FoundSnapshot;
}

/**
 * Snapshots at rest whose whole disk could be a difference. A base is a snapshot that stays whatever happens to this one:
 * its parent, or the newest that was kept of its sandbox before.
 */
export async function findDiskPairs({ layout, references }: SnapshotStore): Promise<DiskPair[]> {
  const roots = new Map<string, FoundSnapshot>();
  for (const root of references.roots()) roots.set(root.manifest.snapshot_id, root);
  const { disks } = references.current();
  const pairs: DiskPair[] = [];
  for (const snapshot of roots.values()) {
    const { snapshot_id, files } = snapshot.manifest;
    // Whose disk others read must keep it as it is.
    if (files.disk.difference || references.inUse(snapshot_id) || disks.has(snapshot_id)) continue;
    const base = baseOf(snapshot, roots);
    if (!base || base.manifest.files.disk.bytes !== files.disk.bytes) continue;
    // A disk with a second name is stored once already.
    const status = await statIfPresent(layout.snapshot(snapshot_id).disk);
    if (status?.nlink === 1) pairs.push({ snapshot, base });
  }
  // Ancestors first: a descendant's table then names the sources that they have from now on.
  return pairs.sort((one, other) => one.snapshot.manifest.generation - other.snapshot.manifest.generation);
}

function baseOf({ manifest }: FoundSnapshot, roots: ReadonlyMap<string, FoundSnapshot>): FoundSnapshot | undefined {
  const parent = roots.get(manifest.parent_id ?? "");
  if (parent) return parent;
  let best: FoundSnapshot | undefined;
  for (const root of roots.values()) {
    const { kind, sandbox_id, generation, snapshot_id } = root.manifest;
    const fits = kind === "kept" && sandbox_id === manifest.sandbox_id && generation <= manifest.generation;
    if (!fits || snapshot_id === manifest.snapshot_id) continue;
    if (!best || best.manifest.generation < generation) best = root;
  }
  // Two kept snapshots of one moment must not become differences to each other.
  return best && best.manifest.generation < manifest.generation ? best : undefined;
}

/**
 * Stores a disk as what differs from the base's, when that saves at least half of it.
 * @returns bytes saved; 0 when it was left whole.
 * @throws TorporError `snapshot_corrupt`, `snapshot_missing`; NativeError; Deno.errors: it is whole then.
 */
export async function storeAsDifference(store: SnapshotStore, { snapshot, base }: DiskPair): Promise<number> {
  const { layout, references } = store;
  const { snapshot_id, generation, files } = snapshot.manifest;
  // The pairs before this one may have made it a base.
  if (references.current().disks.has(snapshot_id)) return 0;
  using _base = references.pin(base);
  const path = `${layout.staging}/${snapshot_id}.disk`;
  await Deno.mkdir(layout.staging, { recursive: true, mode: 0o700 });
  try {
    const parent = await diskTable(layout, base.manifest);
    const sizeBytes = files.disk.bytes;
    const { runs, bytesWritten: bytes, crc32c } = await difference(store, snapshot_id, sizeBytes, parent, path);
    const table = overlayTable(parent, { snapshotId: snapshot_id, kind: "disk", generation, sizeBytes, runs });
    const saved = files.disk.allocated_bytes - bytes - encodeHeader(table).length;
    if (saved < MIN_SAVED_BYTES || saved < files.disk.allocated_bytes / 2) return 0;
    await syncPath(path);
    store.onStep?.("difference.rewrite");
    const how = { difference: { table, data: { bytes, crc32c }, path } };
    return await rewriteSnapshot(store, snapshot, how) ? saved : 0;
  } finally {
    await removeIfPresent(path);
  }
}

async function difference(
  { layout }: SnapshotStore,
  snapshotId: string,
  sizeBytes: number,
  parent: Parameters<typeof encodeHeader>[0],
  path: string,
): Promise<DiskDiff> {
  await removeIfPresent(path);
  using opened = new DisposableStack();
  const open = (file: string) => opened.use(openFile(file, { read: true })).fd;
  const output = opened.use(openFile(path, { read: true, write: true, create: true, exclusive: true }));
  return await diffDisk({
    disk: open(layout.snapshot(snapshotId).disk),
    sizeBytes,
    header: encodeHeader(parent),
    sources: (await diskFiles(layout, parent.sources)).map(open),
    output: output.fd,
  });
}
