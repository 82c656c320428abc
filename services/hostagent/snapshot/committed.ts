import { openFile, sizeBytes } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import {
  crc32c,
  decodeHeader,
  type ExtentTable,
  type Manifest,
  parseManifest,
  storedBytes,
  ZERO_SOURCE,
} from "@torpor/snapshot";
import { isPresent, readIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { KnownDamage } from "./damage.ts";

/** A snapshot on disk whose manifest was read. */
export interface CommittedSnapshot {
  manifest: Manifest;
}

/** A snapshot that was verified, with what a resume needs of it. */
export interface VerifiedSnapshot extends CommittedSnapshot {
  table: ExtentTable;
}

/**
 * Reads the manifest of a committed snapshot.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`.
 */
export async function readManifest(layout: Layout, snapshotId: string): Promise<Manifest> {
  return manifestOf(snapshotId, await readText(layout.snapshot(snapshotId).manifest));
}

function manifestOf(snapshotId: string, text: string): Manifest {
  const manifest = parseManifest(text);
  if (manifest.snapshot_id !== snapshotId) throw corrupt("the manifest is of another snapshot");
  return manifest;
}

/**
 * Reads the manifest of what a running VM was resumed from: also of a kept snapshot that was deleted since.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`.
 */
export async function readParentManifest(layout: Layout, snapshotId: string): Promise<Manifest> {
  const { manifest, deletedManifest } = layout.snapshot(snapshotId);
  const text = await readIfPresent(manifest) ?? await readText(deletedManifest);
  return manifestOf(snapshotId, text);
}

/**
 * Reads the extent table of a snapshot and checks it against the manifest.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`.
 */
export async function readTable(layout: Layout, manifest: Manifest): Promise<ExtentTable> {
  const bytes = await readBytes(layout.snapshot(manifest.snapshot_id).memoryHeader);
  requireFile("memory.header", bytes, manifest.files.memory_header);
  const table = decodeHeader(bytes);
  const fits = table.kind === "memory" && table.generation === manifest.generation &&
    table.sizeBytes === manifest.memory_mb * 2 ** 20;
  if (!fits) throw corrupt("memory.header does not fit the manifest");
  return table;
}

/**
 * Checks all that can be checked without reading guest memory and disk: manifest, extent table, device state, and the
 * lengths of the disk and of every generation that the table refers to.
 * @param damage what verifications that have read all data have found: such a snapshot is refused.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`.
 */
export async function verifySnapshot(
  layout: Layout,
  snapshotId: string,
  damage?: KnownDamage,
): Promise<VerifiedSnapshot> {
  const manifest = await readManifest(layout, snapshotId);
  const paths = layout.snapshot(snapshotId);
  const table = await readTable(layout, manifest);
  requireFile("state", await readBytes(paths.state), manifest.files.state);
  requireLength("memory.data", paths.memoryData, manifest.files.memory_data.bytes, "exactly");
  await verifyDisk(layout, manifest);
  sourceLengths(table).forEach((bytes, index) => {
    const source = table.sources[index]!;
    requireLength(`memory.data of ${source}`, layout.snapshot(source).memoryData, bytes, "at least");
  });
  await damage?.requireSoundData(layout, { manifest, table });
  return { manifest, table };
}

/**
 * Reads the extent table of a snapshot's disk and checks it against the manifest.
 * @returns undefined when the disk is whole.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`.
 */
export async function readDiskTable(layout: Layout, manifest: Manifest): Promise<ExtentTable | undefined> {
  const { bytes: sizeBytes, difference } = manifest.files.disk;
  if (!difference) return undefined;
  const bytes = await readBytes(layout.snapshot(manifest.snapshot_id).diskHeader);
  requireFile("disk.header", bytes, difference.header);
  const table = decodeHeader(bytes);
  const fits = table.kind === "disk" && table.generation === manifest.generation && table.sizeBytes === sizeBytes;
  if (!fits) throw corrupt("disk.header does not fit the manifest");
  return table;
}

async function verifyDisk(layout: Layout, manifest: Manifest): Promise<void> {
  const { disk } = manifest.files;
  const paths = layout.snapshot(manifest.snapshot_id);
  const table = await readDiskTable(layout, manifest);
  if (!table) return requireLength("disk.raw", paths.disk, disk.bytes, "exactly");
  requireLength("disk.data", paths.diskData, disk.difference!.data.bytes, "exactly");
  const files = await diskFiles(layout, table.sources);
  sourceLengths(table).forEach((bytes, index) => {
    requireLength(`the disk of ${table.sources[index]!}`, files[index]!, bytes, "at least");
  });
}

/** Where the bytes of each source of a disk table are: a whole disk, or what a difference stores. It has one of them. */
export async function diskFiles(layout: Layout, sources: Iterable<string>): Promise<string[]> {
  const files: string[] = [];
  for (const source of sources) {
    const { disk, diskData } = layout.snapshot(source);
    files.push(await isPresent(disk) ? disk : diskData);
  }
  return files;
}

/** What callers are told of a snapshot (SnapshotInfo in proto/hostagent/v1). */
export function snapshotSizes(manifest: Manifest): { sizeBytes: number; memoryBytes: number; diskBytes: number } {
  return {
    sizeBytes: storedBytes(manifest),
    memoryBytes: manifest.files.memory_data.bytes,
    diskBytes: manifest.files.disk.allocated_bytes,
  };
}

/** For each source the length that its file must have at least. */
function sourceLengths(table: ExtentTable): number[] {
  const lengths = table.sources.map(() => 0);
  for (let index = 0; index < table.count; index++) {
    const source = table.sourceIndexes[index]!;
    if (source === ZERO_SOURCE) continue;
    const end = table.sourceOffsets[index]! + table.lengths[index]!;
    if (end > lengths[source]!) lengths[source] = end;
  }
  return lengths;
}

function requireFile(name: string, bytes: Uint8Array, expected: { bytes: number; crc32c: number }): void {
  if (bytes.length !== expected.bytes) throw corrupt(`${name} has ${bytes.length} bytes, not ${expected.bytes}`);
  if (crc32c(bytes) !== expected.crc32c) throw corrupt(`${name} has a wrong checksum`);
}

function requireLength(name: string, path: string, expected: number, how: "exactly" | "at least"): void {
  let actual: number;
  try {
    using file = openFile(path, { read: true });
    actual = sizeBytes(file.fd);
  } catch (cause) {
    throw new TorporError("snapshot_missing", `${name} of the snapshot cannot be opened`, { cause });
  }
  const fits = how === "exactly" ? actual === expected : actual >= expected;
  if (!fits) throw corrupt(`${name} has ${actual} bytes, not ${how} ${expected}`);
}

async function readText(path: string): Promise<string> {
  return new TextDecoder().decode(await readBytes(path));
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new TorporError("snapshot_missing", "a file of the snapshot is missing", { cause });
  }
}

function corrupt(message: string): TorporError {
  return new TorporError("snapshot_corrupt", message, { hint: "the snapshot is kept as it is for inspection" });
}
