import { copyRanges, fileCrc32c, fsync, openFile } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import {
  compactionOrigin,
  type ExtentKind,
  type ExtentTable,
  formatOrigin,
  type LiveRange,
  planCompaction,
} from "@torpor/snapshot";
import { removeIfPresent, statIfPresent, syncPath, writeAndSync } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { diskFiles, readDiskTable, readTable } from "./committed.ts";
import { chooseCompactions, type CompactionGroup, type CompactionLimits, type Reader } from "./compaction_choice.ts";
import { isRoot, rewriteSnapshot, type Rewriting, type SnapshotStore } from "./rewrite.ts";
import type { FoundSnapshot } from "./sweep.ts";

/** Copied in one native call: it cannot be interrupted. */
const RANGES_AT_ONCE = 1024;

/**
 * What is worth being copied together now. Snapshots in use or damaged, and what they read, are left out; while somebody's
 * table cannot be read there is nothing, as what was copied could not go.
 * @throws TorporError `snapshot_corrupt`, `snapshot_missing` when the table of a snapshot at rest cannot be read.
 */
export async function findCompactions(store: SnapshotStore, limits: CompactionLimits): Promise<CompactionGroup[]> {
  if (!store.references.current().complete) return [];
  const roots = [...store.references.roots()];
  const damaged = [...store.references.unreadable.values()];
  const atRest = new Map<string, FoundSnapshot>();
  for (const root of roots) {
    const { snapshot_id } = root.manifest;
    if (!store.references.inUse(snapshot_id)) atRest.set(snapshot_id, root);
  }
  const busy = roots.filter(({ manifest }) => !atRest.has(manifest.snapshot_id));
  const found: CompactionGroup[] = [];
  for (const kind of ["memory", "disk"] as const) {
    const readers = await readersOf(store, kind, atRest.values());
    const untouchable = new Set(
      [...busy, ...damaged].flatMap(({ sources, diskSources }) => (kind === "memory" ? sources : diskSources) ?? []),
    );
    if (kind === "disk") {
      // A whole disk is read by its own snapshot in full, which has no table that would say so.
      for (const { manifest } of roots) if (!manifest.files.disk.difference) untouchable.add(manifest.snapshot_id);
    }
    const sources = new Set(readers.flatMap(({ table }) => table.sources));
    const stored = await storedBytes(store.layout, kind, sources);
    found.push(...chooseCompactions(kind, readers, stored, untouchable, limits));
  }
  return found;
}

async function readersOf(
  { layout, references }: SnapshotStore,
  kind: ExtentKind,
  snapshots: Iterable<FoundSnapshot>,
): Promise<Reader[]> {
  const readers: Reader[] = [];
  const read = kind === "memory" ? readTable : readDiskTable;
  for (const snapshot of snapshots) {
    try {
      const table = await read(layout, snapshot.manifest);
      if (table) readers.push({ snapshot, table });
    } catch (error) {
      // Deleted meanwhile.
      if (isRoot(references, snapshot)) throw error;
    }
  }
  return readers;
}

async function dataFiles(layout: Layout, kind: ExtentKind, sources: Iterable<string>): Promise<string[]> {
  if (kind === "disk") return await diskFiles(layout, sources);
  return [...sources].map((source) => layout.snapshot(source).memoryData);
}

async function storedBytes(layout: Layout, kind: ExtentKind, sources: Set<string>): Promise<Map<string, number>> {
  const files = await dataFiles(layout, kind, sources);
  const stored = new Map<string, number>();
  for (const [index, source] of [...sources].entries()) {
    const status = await statIfPresent(files[index]!);
    stored.set(source, status ? Math.min(status.size, (status.blocks ?? 0) * 512) : 0);
  }
  return stored;
}

/**
 * Copies the live bytes of a group's victims into one file, and lets all readers read that. The victims themselves are left
 * for the next collection, which also removes the new file if no reader could be changed.
 * @returns ids of the victims, and of the new file.
 */
export async function compact(store: SnapshotStore, group: CompactionGroup, signal?: AbortSignal): Promise<string[]> {
  const target = newId();
  const plan = planCompaction(group.readers.map(({ table }) => table), group.victims, target);
  await writeTarget(store, group, target, plan, signal);
  let allRewritten = true;
  for (const [index, { snapshot }] of group.readers.entries()) {
    signal?.throwIfAborted();
    const rewritten = await rewriteSnapshot(store, snapshot, change(group.kind, plan.tables[index]!, true));
    allRewritten &&= rewritten;
  }
  if (allRewritten) await giveAwayOwnData(store, group, plan.tables);
  return [...group.victims, target];
}

/** A victim that stays for its own sake still has its data, which nobody reads any more. */
async function giveAwayOwnData(store: SnapshotStore, group: CompactionGroup, tables: ExtentTable[]): Promise<void> {
  for (const [index, { snapshot }] of group.readers.entries()) {
    if (!group.victims.has(snapshot.manifest.snapshot_id)) continue;
    await rewriteSnapshot(store, snapshot, change(group.kind, tables[index]!, false));
  }
}

function change(kind: ExtentKind, table: ExtentTable, keepOwnData: boolean): Rewriting {
  return kind === "memory" ? { memory: { table, keepOwnData } } : { disk: { table, keepOwnData } };
}

/** The new file is whole and named before any table refers to it. */
async function writeTarget(
  { layout, onStep }: SnapshotStore,
  group: CompactionGroup,
  target: string,
  { ranges, bytes }: { ranges: LiveRange[]; bytes: number },
  signal: AbortSignal | undefined,
): Promise<void> {
  const staged = layout.staged(target);
  await Deno.mkdir(staged.directory, { recursive: true, mode: 0o700 });
  try {
    onStep?.("compact.copy");
    const path = group.kind === "memory" ? staged.memoryData : staged.diskData;
    const crc = await copyLive(layout, group.kind, [...group.victims], ranges, { path, bytes }, signal);
    const { sandbox_id } = group.readers[0]!.snapshot.manifest;
    const generation = Math.max(...group.readers.map(({ table }) => table.generation));
    const origin = compactionOrigin({ snapshot_id: target, sandbox_id, generation });
    origin[group.kind === "memory" ? "memory_data" : "disk_data"] = { bytes, crc32c: crc };
    await writeAndSync(staged.origin, new TextEncoder().encode(formatOrigin(origin)));
    await syncPath(staged.directory);
    onStep?.("compact.commit");
    await Deno.rename(staged.directory, layout.snapshot(target).directory);
    await syncPath(layout.snapshots);
  } catch (error) {
    await removeIfPresent(staged.directory);
    throw error;
  }
}

async function copyLive(
  layout: Layout,
  kind: ExtentKind,
  sources: string[],
  ranges: LiveRange[],
  to: { path: string; bytes: number },
  signal: AbortSignal | undefined,
): Promise<number> {
  using opened = new DisposableStack();
  const open = (path: string) => opened.use(openFile(path, { read: true })).fd;
  const descriptors = (await dataFiles(layout, kind, sources)).map(open);
  const numbers = new Map(sources.map((source, index) => [source, index]));
  const output = opened.use(openFile(to.path, { read: true, write: true, create: true, exclusive: true }));
  const numbered = ranges.map(({ source, ...range }) => ({ ...range, source: numbers.get(source)! }));
  for (let at = 0; at < numbered.length; at += RANGES_AT_ONCE) {
    signal?.throwIfAborted();
    await copyRanges(descriptors, numbered.slice(at, at + RANGES_AT_ONCE), output.fd);
  }
  await fsync(output.fd);
  return await fileCrc32c(output.fd, to.bytes);
}
