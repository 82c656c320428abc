import { fsync, openFile } from "@torpor/ffi";
import { crc32c, encodeHeader, type ExtentTable, formatManifest, type Manifest } from "@torpor/snapshot";
import { removeIfPresent, syncPath, writeAndSync } from "../storage/durable_file.ts";
import type { Layout, SnapshotPaths } from "../storage/layout.ts";

/** Length and checksum of a file, as the manifest has them. */
export interface CheckedFile {
  bytes: number;
  crc32c: number;
}

async function linkIfPresent(from: string, to: string): Promise<boolean> {
  try {
    await Deno.link(from, to);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * A snapshot that is being written. Until `commit` renames it into place it does not exist for anybody; disposing it
 * before that removes every trace.
 */
export class StagedSnapshot implements AsyncDisposable {
  readonly snapshotId: string;
  readonly paths: SnapshotPaths;
  readonly #layout: Layout;
  #committed = false;

  private constructor(layout: Layout, snapshotId: string) {
    this.#layout = layout;
    this.snapshotId = snapshotId;
    this.paths = layout.staged(snapshotId);
  }

  static async create(layout: Layout, snapshotId: string): Promise<StagedSnapshot> {
    const staged = new StagedSnapshot(layout, snapshotId);
    await Deno.mkdir(staged.paths.directory, { recursive: true, mode: 0o700 });
    return staged;
  }

  /** Lets `write` fill the file `state` or `memory.data` through a descriptor, and syncs it. */
  async writeFile<T>(path: string, write: (fd: number) => Promise<T>): Promise<T> {
    using file = openFile(path, { read: true, write: true, create: true, exclusive: true });
    const result = await write(file.fd);
    await fsync(file.fd);
    return result;
  }

  /** Writes the extent table. */
  async writeHeader(table: ExtentTable): Promise<CheckedFile> {
    const bytes = encodeHeader(table);
    await writeAndSync(this.paths.memoryHeader, bytes);
    return { bytes: bytes.length, crc32c: crc32c(bytes) };
  }

  /** Length and checksum of the device state after it was written. */
  async stateFile(): Promise<CheckedFile> {
    const bytes = await Deno.readFile(this.paths.state);
    return { bytes: bytes.length, crc32c: crc32c(bytes) };
  }

  /**
   * Takes the live disk into the snapshot by a second name for the same file: no byte is copied. The VM must be stopped
   * and must not run again once the snapshot is committed (docs/decisions/0002-disk-at-pause.md).
   */
  async linkDisk(liveDisk: string): Promise<{ bytes: number; allocated_bytes: number }> {
    await Deno.link(liveDisk, this.paths.disk);
    await syncPath(this.paths.disk);
    const { size, blocks } = await Deno.stat(this.paths.disk);
    return { bytes: size, allocated_bytes: (blocks ?? 0) * 512 };
  }

  /**
   * Takes all of a committed snapshot by second names for its files but its data, which goes on being read where it is:
   * the new snapshot's own data is empty.
   */
  async linkSnapshot(from: SnapshotPaths): Promise<void> {
    await Deno.link(from.state, this.paths.state);
    await Deno.link(from.memoryHeader, this.paths.memoryHeader);
    await writeAndSync(this.paths.memoryData, new Uint8Array());
    if (await linkIfPresent(from.diskHeader, this.paths.diskHeader)) {
      await writeAndSync(this.paths.diskData, new Uint8Array());
    } else {
      await Deno.link(from.disk, this.paths.disk);
      await linkIfPresent(from.diskSums, this.paths.diskSums);
      await linkIfPresent(from.diskHash, this.paths.diskHash);
    }
    await linkIfPresent(from.workingSet, this.paths.workingSet);
  }

  /** Makes the snapshot real: manifest, fsync of everything, rename, fsync of the parent directory. */
  async commit(manifest: Manifest): Promise<void> {
    await writeAndSync(this.paths.manifest, new TextEncoder().encode(formatManifest(manifest)));
    await syncPath(this.paths.directory);
    await Deno.rename(this.paths.directory, this.#layout.snapshot(this.snapshotId).directory);
    this.#committed = true;
    await syncPath(this.#layout.snapshots);
  }

  /** True once the snapshot has its final name. Whatever fails after that does not undo it. */
  get committed(): boolean {
    return this.#committed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#committed) await removeIfPresent(this.paths.directory);
  }
}
