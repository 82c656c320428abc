import { statIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { diskFiles } from "./committed.ts";
import type { FoundSnapshot } from "./sweep.ts";

/** What is stored for somebody, bytes on disk. */
export interface StoredBytes {
  /** Of files that nobody else needs. */
  unique: number;
  /** Its part of files that others need, too: one of n has 1/n. */
  shared: number;
}

/** Somebody who needs files: a sandbox, or a snapshot that belongs to none. */
export interface Storer {
  /** Snapshots that it needs, with the data that their tables read. */
  snapshots: readonly FoundSnapshot[];
  /** Other files of it. */
  files: readonly string[];
}

/**
 * Measures what is stored for whom. Files are told apart by what they are, not by what they are called: one with several
 * names is stored once. The sums over all are what is stored, but for rounding.
 * @returns in the order of the storers.
 */
export async function measureStored(layout: Layout, storers: readonly Storer[]): Promise<StoredBytes[]> {
  const files = new Map<number, { bytes: number; needs: number }>();
  const sizes = new SizeCache();
  const needed: Set<number>[] = [];
  for (const storer of storers) {
    const inodes = new Set<number>();
    for (const path of [...await filesOf(layout, storer.snapshots), ...storer.files]) {
      const file = await sizes.of(path);
      if (!file || inodes.has(file.inode)) continue;
      inodes.add(file.inode);
      const known = files.get(file.inode) ?? { bytes: file.bytes, needs: 0 };
      known.needs++;
      files.set(file.inode, known);
    }
    needed.push(inodes);
  }
  return needed.map((inodes) => {
    const stored = { unique: 0, shared: 0 };
    for (const inode of inodes) {
      const { bytes, needs } = files.get(inode)!;
      if (needs === 1) stored.unique += bytes;
      else stored.shared += Math.floor(bytes / needs);
    }
    return stored;
  });
}

async function filesOf(layout: Layout, snapshots: readonly FoundSnapshot[]): Promise<string[]> {
  const paths: string[] = [];
  for (const { manifest, sources = [], diskSources = [] } of snapshots) {
    const { state, memoryHeader, memoryData, diskHeader, diskData, disk } = layout.snapshot(manifest.snapshot_id);
    paths.push(state, memoryHeader, memoryData, ...manifest.files.disk.difference ? [diskHeader, diskData] : [disk]);
    for (const source of sources) paths.push(layout.snapshot(source).memoryData);
    paths.push(...await diskFiles(layout, diskSources));
  }
  return paths;
}

/** Siblings read the same files: each is looked at once. */
class SizeCache {
  readonly #sizes = new Map<string, { inode: number; bytes: number } | undefined>();

  async of(path: string): Promise<{ inode: number; bytes: number } | undefined> {
    if (this.#sizes.has(path)) return this.#sizes.get(path);
    const status = await statIfPresent(path);
    const size = status?.ino === null || !status ? undefined : { inode: status.ino, bytes: (status.blocks ?? 0) * 512 };
    this.#sizes.set(path, size);
    return size;
  }
}
