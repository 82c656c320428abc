import { NativeError } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import {
  ContentHasher,
  type ContentName,
  decodeDiskSums,
  decodeHeader,
  type ExtentKind,
  type ExtentTable,
  type Manifest,
  parseContentName,
  parseManifest,
  parseOrigin,
} from "@torpor/snapshot";
import { isPresent, statIfPresent } from "../storage/durable_file.ts";
import type { Layout, SnapshotPaths } from "../storage/layout.ts";
import { checksumOf, diskSumsOf, sameSums } from "./checksums.ts";
import { type Reading, UNPACED } from "./pace.ts";
import type { CheckedFile } from "./staging.ts";

/** What reading a file in full has shown. `unchecked`: nobody knows its checksum. */
export type Verdict = "good" | "damaged" | "missing" | "unchecked";

/** Files that hold what guests have written; the others describe it, and every resume checks them. */
export type DataFile = "memory.data" | "disk.data" | "disk.raw";

/** The files of a snapshot that can be verified. */
export type SnapshotFile = "manifest.json" | "state" | "memory.header" | "disk.header" | DataFile;

/** Files whose checksum is in the manifest, or in `origin.json`. */
type SummedFile = Exclude<SnapshotFile, "manifest.json" | "disk.raw">;

/** A file of a snapshot, or of one that it reads. */
export interface VerifiedFile {
  snapshotId: string;
  file: SnapshotFile;
  verdict: Verdict;
  bytes: number;
}

/**
 * Reads every file that a resume of a snapshot could read, its own and those that its tables name, and compares checksums.
 * What is damaged is told, not thrown. It takes the time of reading all of it.
 * @throws NativeError, Deno.errors when something cannot be read for another reason; the signal's reason.
 */
export async function verifyData(layout: Layout, snapshotId: string, reading = UNPACED): Promise<VerifiedFile[]> {
  for (;;) {
    const before = await identityOf(layout, snapshotId);
    const verified = await verifyAll(layout, snapshotId, reading);
    // It was written anew in between: its files are of two directories.
    if (await identityOf(layout, snapshotId) === before) return verified;
  }
}

/**
 * Reads all files in the directory of a snapshot, or of data that is left of one, and looks whether the data that its
 * tables read is there.
 * @returns nothing when it was released or written anew meanwhile.
 * @throws as {@linkcode verifyData}.
 */
export async function verifyOwnData(layout: Layout, snapshotId: string, reading: Reading): Promise<VerifiedFile[]> {
  const before = await identityOf(layout, snapshotId);
  const verified = await verifyDirectory(layout, snapshotId, reading);
  for (const { id, file, path } of await readElsewhere(layout, snapshotId)) {
    if (!await isPresent(path)) verified.push({ snapshotId: id, file, verdict: "missing", bytes: 0 });
  }
  return await identityOf(layout, snapshotId) === before ? verified : [];
}

/** Changes when a directory is exchanged for another, or is no snapshot any more. */
async function identityOf(layout: Layout, snapshotId: string): Promise<string> {
  const { directory, manifest } = layout.snapshot(snapshotId);
  return `${(await statIfPresent(directory))?.ino} ${await isPresent(manifest)}`;
}

async function verifyAll(layout: Layout, snapshotId: string, reading: Reading): Promise<VerifiedFile[]> {
  const verified = await verifyDirectory(layout, snapshotId, reading);
  for (const { id, file } of await readElsewhere(layout, snapshotId)) {
    if (file === "disk.raw") {
      verified.push(await verifyDisk(layout, id, reading));
      continue;
    }
    const { memory, disk } = await knownOf(layout, id);
    verified.push(await verifyFile(layout, id, file, file === "memory.data" ? memory : disk, reading));
  }
  return verified;
}

/** The data files of others that a snapshot's tables name. */
async function readElsewhere(
  layout: Layout,
  snapshotId: string,
): Promise<{ id: string; file: DataFile; path: string }[]> {
  const { memoryHeader, diskHeader } = layout.snapshot(snapshotId);
  const others = (table: ExtentTable | undefined) => table?.sources.filter((id) => id !== snapshotId) ?? [];
  const read: { id: string; file: DataFile; path: string }[] = [];
  for (const id of others(await tableIn(memoryHeader, "memory"))) {
    read.push({ id, file: "memory.data", path: layout.snapshot(id).memoryData });
  }
  for (const id of others(await tableIn(diskHeader, "disk"))) {
    const { disk, diskData } = layout.snapshot(id);
    const whole = await isPresent(disk);
    read.push(whole ? { id, file: "disk.raw", path: disk } : { id, file: "disk.data", path: diskData });
  }
  return read;
}

async function verifyDirectory(layout: Layout, snapshotId: string, reading: Reading): Promise<VerifiedFile[]> {
  const paths = layout.snapshot(snapshotId);
  const committed = await isPresent(paths.manifest);
  const known = await knownOf(layout, snapshotId);
  const verified: VerifiedFile[] = [];
  const verify = async (file: SummedFile, expected?: CheckedFile) => {
    verified.push(await verifyFile(layout, snapshotId, file, expected, reading));
  };
  if (committed) {
    const verdict = known.manifest ? "good" : "damaged";
    verified.push({ snapshotId, file: "manifest.json", verdict, bytes: await sizeOf(paths.manifest) });
    await verify("state", known.manifest?.files.state);
    if (known.manifest) await verify("memory.header", known.manifest.files.memory_header);
    else verified.push(await verifyTable(layout, snapshotId, "memory"));
  }
  // Of a snapshot that has gone there is only what others read.
  const expects = (path: string) => committed ? true : isPresent(path);
  if (await expects(paths.memoryData)) await verify("memory.data", known.memory);
  const whole = known.manifest ? !known.manifest.files.disk.difference : await isPresent(paths.disk);
  if (whole) {
    if (await expects(paths.disk)) verified.push(await verifyDisk(layout, snapshotId, reading));
    return committed ? verified : verified.filter(isThere);
  }
  if (known.manifest) await verify("disk.header", known.manifest.files.disk.difference!.header);
  else if (committed) verified.push(await verifyTable(layout, snapshotId, "disk"));
  if (await expects(paths.diskData)) await verify("disk.data", known.disk);
  return committed ? verified : verified.filter(isThere);
}

/** What was given back while others were being read is nobody's loss. */
function isThere({ verdict }: VerifiedFile): boolean {
  return verdict !== "missing";
}

/** What says how the data files of a directory must be. */
export interface Known {
  /** Undefined when there is none that can be read. */
  manifest?: Manifest;
  memory?: CheckedFile;
  disk?: CheckedFile;
}

/** From the manifest, or from what is known of data whose manifest is gone. A damaged source says nothing. */
export async function knownOf(layout: Layout, snapshotId: string): Promise<Known> {
  const paths = layout.snapshot(snapshotId);
  const text = await textOf(paths.manifest) ?? await textOf(paths.deletedManifest);
  if (text !== undefined) {
    const manifest = unlessCorrupt(() => parseManifest(text));
    if (manifest?.snapshot_id !== snapshotId) return {};
    return { manifest, memory: manifest.files.memory_data, disk: manifest.files.disk.difference?.data };
  }
  const rest = await textOf(paths.origin);
  const origin = rest === undefined ? undefined : unlessCorrupt(() => parseOrigin(rest));
  return { memory: origin?.memory_data ?? undefined, disk: origin?.disk_data ?? undefined };
}

async function verifyFile(
  layout: Layout,
  snapshotId: string,
  file: SummedFile,
  expected: CheckedFile | undefined,
  reading: Reading,
): Promise<VerifiedFile> {
  const path = pathOf(layout.snapshot(snapshotId), file);
  if (!expected) return await unchecked(snapshotId, file, path);
  const name = await contentNameOf(layout.snapshot(snapshotId), file);
  return await verdictOf(snapshotId, file, path, async () => {
    const hasher = name && new ContentHasher();
    const actual = await checksumOf(path, reading, hasher);
    const isGood = actual?.bytes === expected.bytes && actual.crc32c === expected.crc32c;
    return isGood && await isNamed(name, hasher, actual.bytes);
  });
}

/** Whether bytes that were read have the name that was noted for them; nothing is noted for most small files. */
async function isNamed(name: ContentName | undefined, hasher: ContentHasher | undefined, bytes: number) {
  return !name || (await hasher!.finish(bytes)).sha256 === name.sha256;
}

async function contentNameOf(paths: SnapshotPaths, file: SnapshotFile): Promise<ContentName | undefined> {
  if (file === "memory.data") return await readContentName(paths.memoryHash);
  return file === "disk.data" || file === "disk.raw" ? await readContentName(paths.diskHash) : undefined;
}

/** Without a manifest the table's own checksum tells. */
async function verifyTable(layout: Layout, snapshotId: string, kind: ExtentKind): Promise<VerifiedFile> {
  const { memoryHeader, diskHeader } = layout.snapshot(snapshotId);
  const path = kind === "memory" ? memoryHeader : diskHeader;
  const verified = await unchecked(snapshotId, `${kind}.header`, path);
  if (verified.verdict === "unchecked") verified.verdict = await tableIn(path, kind) ? "good" : "damaged";
  return verified;
}

/** A disk whose own checksums are damaged is unchecked: they say nothing about it, and can be made anew. */
async function verifyDisk(layout: Layout, snapshotId: string, reading: Reading): Promise<VerifiedFile> {
  const { disk, diskSums, diskHash } = layout.snapshot(snapshotId);
  const expected = await readSums(diskSums);
  const name = await readContentName(diskHash);
  if (!expected && !name) return await unchecked(snapshotId, "disk.raw", disk);
  return await verdictOf(snapshotId, "disk.raw", disk, async () => {
    const hasher = name && new ContentHasher();
    const actual = await diskSumsOf(disk, reading, hasher);
    if (!actual || expected && !sameSums(actual, expected)) return false;
    return await isNamed(name, hasher, actual.sizeBytes);
  });
}

/** What a data file is called by its content; undefined when nobody has noted it, or the note is broken. */
export async function readContentName(path: string): Promise<ContentName | undefined> {
  const text = await textOf(path);
  return text === undefined ? undefined : unlessCorrupt(() => parseContentName(text));
}

/** The checksums of a whole disk; undefined when there are none that can be used. */
export async function readSums(path: string): Promise<ReturnType<typeof decodeDiskSums> | undefined> {
  const bytes = await bytesOf(path);
  return bytes && unlessCorrupt(() => decodeDiskSums(bytes));
}

async function verdictOf(
  snapshotId: string,
  file: SnapshotFile,
  path: string,
  isGood: () => Promise<boolean>,
): Promise<VerifiedFile> {
  try {
    const verdict = await isGood() ? "good" : "damaged";
    return { snapshotId, file, verdict, bytes: await sizeOf(path) };
  } catch (error) {
    if (!(error instanceof NativeError) || error.code !== "native_enoent") throw error;
    return { snapshotId, file, verdict: "missing", bytes: 0 };
  }
}

async function unchecked(snapshotId: string, file: SnapshotFile, path: string): Promise<VerifiedFile> {
  const status = await statIfPresent(path);
  return { snapshotId, file, verdict: status ? "unchecked" : "missing", bytes: status?.size ?? 0 };
}

/**
 * An extent table by itself: it has a checksum of its own, so that it can be trusted without a manifest.
 * @returns undefined when there is none, or it is damaged.
 */
export async function tableIn(path: string, kind: ExtentKind): Promise<ExtentTable | undefined> {
  const bytes = await bytesOf(path);
  const table = bytes && unlessCorrupt(() => decodeHeader(bytes));
  return table?.kind === kind ? table : undefined;
}

/** Undefined when there is no such file; of one that the medium has lost nothing. */
async function bytesOf(path: string): Promise<Uint8Array | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Error && "code" in error && error.code === "EIO") return new Uint8Array();
    throw error;
  }
}

async function textOf(path: string): Promise<string | undefined> {
  const bytes = await bytesOf(path);
  return bytes && new TextDecoder().decode(bytes);
}

/** What `read` returns, or undefined when it throws `snapshot_corrupt`. */
export function unlessCorrupt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof TorporError && error.code === "snapshot_corrupt") return undefined;
    throw error;
  }
}

function pathOf(paths: SnapshotPaths, file: SnapshotFile): string {
  return {
    "manifest.json": paths.manifest,
    "state": paths.state,
    "memory.header": paths.memoryHeader,
    "disk.header": paths.diskHeader,
    "memory.data": paths.memoryData,
    "disk.data": paths.diskData,
    "disk.raw": paths.disk,
  }[file];
}

async function sizeOf(path: string): Promise<number> {
  return (await statIfPresent(path))?.size ?? 0;
}
