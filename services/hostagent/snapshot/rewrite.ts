import { exchange } from "@torpor/ffi";
import { crc32c, encodeHeader, type ExtentTable, formatManifest, type Manifest } from "@torpor/snapshot";
import { namesIn, removeIfPresent, syncPath, writeAndSync } from "../storage/durable_file.ts";
import type { Layout, SnapshotPaths } from "../storage/layout.ts";
import type { SnapshotReferences } from "./references.ts";
import type { CheckedFile } from "./staging.ts";
import type { FoundSnapshot } from "./sweep.ts";

/** How a snapshot is to be stored from now on; its bytes, as a resume sees them, are the same. */
export interface Rewriting {
  /** Another table of its memory. */
  memory?: { table: ExtentTable; keepOwnData: boolean };
  /** Another table of its disk. */
  disk?: { table: ExtentTable; keepOwnData: boolean };
  /** Its whole disk becomes a difference: what it stores itself is in a file, which is moved. */
  difference?: { table: ExtentTable; data: CheckedFile; path: string };
}

/** What rewriting works with. */
export interface SnapshotStore {
  layout: Layout;
  references: SnapshotReferences;
  /** Called at the begin of each step; what it throws fails the step. Tests use it. */
  onStep?: (step: string) => void;
}

/**
 * Stores a committed snapshot in another way. Everything is written beside it, then the two directories exchange their
 * names in one step: a crash at any moment leaves the old one or the new one. A snapshot that is used, or that nothing
 * refers to any more, is left alone.
 * @returns whether it was rewritten.
 * @throws Deno.errors, NativeError: it is as it was then.
 */
export async function rewriteSnapshot(store: SnapshotStore, old: FoundSnapshot, how: Rewriting): Promise<boolean> {
  const { layout, references } = store;
  const id = old.manifest.snapshot_id;
  const staged = layout.staged(id);
  await removeIfPresent(staged.directory);
  await Deno.mkdir(staged.directory, { recursive: true, mode: 0o700 });
  try {
    store.onStep?.("rewrite.write");
    const rewritten = await writeAnew(layout.snapshot(id), staged, old, how);
    await syncPath(staged.directory);
    store.onStep?.("rewrite.exchange");
    // From here to the end of the exchange nothing else runs: nobody reads the manifest of one and the table of the other.
    if (references.inUse(id) || !isRoot(references, old)) return false;
    // Another disk may have become a difference to this one meanwhile: that reads the whole disk.
    if (how.difference && references.current().disks.has(id)) return false;
    exchange(staged.directory, layout.snapshot(id).directory);
    references.replace(rewritten);
    store.onStep?.("rewrite.sync");
    await syncPath(layout.snapshots);
    await syncPath(layout.staging);
    store.onStep?.("rewrite.discard");
    return true;
  } finally {
    await removeIfPresent(staged.directory);
  }
}

/** Whether somebody refers to a snapshot as it was found, and not as it was rewritten since. */
export function isRoot(references: SnapshotReferences, { manifest }: FoundSnapshot): boolean {
  for (const root of references.roots()) if (root.manifest === manifest) return true;
  return false;
}

/** Writes what changes and links what does not. */
async function writeAnew(
  from: SnapshotPaths,
  to: SnapshotPaths,
  old: FoundSnapshot,
  how: Rewriting,
): Promise<FoundSnapshot> {
  const files = structuredClone(old.manifest.files);
  const rewritten: FoundSnapshot = { ...old };
  const written = new Set([to.manifest]);
  const replace = async (path: string, bytes: Uint8Array): Promise<CheckedFile> => {
    await writeAndSync(path, bytes);
    written.add(path);
    return { bytes: bytes.length, crc32c: crc32c(bytes) };
  };
  const nothing = new Uint8Array();
  if (how.memory) {
    files.memory_header = await replace(to.memoryHeader, encodeHeader(how.memory.table));
    if (!how.memory.keepOwnData) {
      files.memory_data = await replace(to.memoryData, nothing);
      written.add(to.memoryHash);
    }
    rewritten.sources = how.memory.table.sources;
  }
  if (how.disk) {
    const header = await replace(to.diskHeader, encodeHeader(how.disk.table));
    const data = how.disk.keepOwnData ? files.disk.difference!.data : await replace(to.diskData, nothing);
    if (!how.disk.keepOwnData) written.add(to.diskHash);
    files.disk = { bytes: files.disk.bytes, allocated_bytes: data.bytes, difference: { header, data } };
    rewritten.diskSources = how.disk.table.sources;
  }
  if (how.difference) {
    const { table, data, path } = how.difference;
    const header = await replace(to.diskHeader, encodeHeader(table));
    await Deno.rename(path, to.diskData);
    written.add(to.diskData);
    written.add(to.disk).add(to.diskSums).add(to.diskHash);
    files.disk = { bytes: files.disk.bytes, allocated_bytes: data.bytes, difference: { header, data } };
    rewritten.diskSources = table.sources;
  }
  rewritten.manifest = { ...old.manifest, files };
  await linkRest(from, to, written);
  await writeAndSync(to.manifest, manifestBytes(rewritten.manifest));
  return rewritten;
}

async function linkRest(from: SnapshotPaths, to: SnapshotPaths, written: ReadonlySet<string>): Promise<void> {
  for (const name of await namesIn(from.directory)) {
    const target = `${to.directory}/${name}`;
    if (!written.has(target)) await Deno.link(`${from.directory}/${name}`, target);
  }
}

function manifestBytes(manifest: Manifest): Uint8Array {
  return new TextEncoder().encode(formatManifest(manifest));
}
