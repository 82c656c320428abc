import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import { NativeError } from "@torpor/ffi";
import { requireId } from "@torpor/ids";
import {
  type InspectSnapshotResponse,
  InspectSnapshotResponseSchema,
  type SnapshotGenerationSchema,
  type SnapshotTableSchema,
  type VerifiedFileSchema,
} from "@torpor/proto/hostagent";
import {
  type ExtentTable,
  formatManifest,
  type Manifest,
  parseManifest,
  parseOrigin,
  sourceUsage,
  storedBytes,
} from "@torpor/snapshot";
import { isPresent, namesIn, readIfPresent, statIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { diskFiles, readManifest, readTable } from "./committed.ts";
import type { KnownDamage } from "./damage.ts";
import { diskTable } from "./disk_image.ts";
import { unlessCorrupt, type VerifiedFile, verifyData } from "./verify_data.ts";

/** What an inspection may also do. */
export interface InspectOptions {
  /** Read all data, too, and compare checksums. */
  verify: boolean;
  /** What earlier verifications have found; takes the verdicts of this one. */
  damage: KnownDamage;
  note: (verified: VerifiedFile[]) => Promise<void>;
}

/**
 * Explains what a snapshot consists of: its tables with the bytes by source, and the generations that it still needs. With
 * `verify` a damaged one is no failure: the verdicts say what is wrong with it.
 * @throws TorporError `invalid_argument`, `snapshot_not_found`, `snapshot_corrupt`, `snapshot_missing`.
 */
export async function inspectSnapshot(
  layout: Layout,
  snapshotId: string,
  { verify, damage, note }: InspectOptions,
): Promise<InspectSnapshotResponse> {
  const { manifest: path } = layout.snapshot(requireId(snapshotId, "snapshot_id"));
  const manifestJson = await readIfPresent(path);
  if (manifestJson === undefined) {
    throw new TorporError("snapshot_not_found", `no snapshot ${snapshotId} on this host`, { field: "snapshot_id" });
  }
  const verified = verify ? await verifyData(layout, snapshotId) : [];
  await note(verified);
  const contents = await contentsOf(layout, snapshotId).catch((error) => {
    if (verify && isDamage(error)) return { manifestJson, known: { manifest: { snapshot_id: snapshotId } } };
    throw error;
  });
  const { known, ...shown } = contents;
  return create(InspectSnapshotResponseSchema, {
    ...shown,
    verified: verified.map(fileInfo),
    knownDamage: damage.of(known).map(fileInfo),
  });
}

async function contentsOf(layout: Layout, snapshotId: string) {
  const manifest = await readManifest(layout, snapshotId);
  const memory = await readTable(layout, manifest);
  const disk = await diskTable(layout, manifest);
  const memoryFiles = memory.sources.map((source) => layout.snapshot(source).memoryData);
  return {
    known: { manifest, sources: memory.sources, diskSources: disk.sources },
    manifestJson: formatManifest(manifest),
    memory: await tableInfo(memory, memoryFiles),
    disk: await tableInfo(disk, await diskFiles(layout, disk.sources)),
    generations: await generations(layout, manifest, [...memory.sources, ...disk.sources]),
  };
}

/** A missing disk is reported by the file system itself. */
function isDamage(error: unknown): boolean {
  if (error instanceof TorporError) return error.code === "snapshot_corrupt" || error.code === "snapshot_missing";
  return error instanceof NativeError && error.code === "native_enoent";
}

function fileInfo({ bytes, ...file }: VerifiedFile): MessageInitShape<typeof VerifiedFileSchema> {
  return { ...file, bytes: BigInt(bytes) };
}

/** @param files where the bytes of each source are. */
async function tableInfo(table: ExtentTable, files: string[]): Promise<MessageInitShape<typeof SnapshotTableSchema>> {
  const usage = sourceUsage([table]);
  const sources = await Promise.all(table.sources.map(async (snapshotId, index) => {
    const { liveBytes, extents } = usage.get(snapshotId)!;
    return { snapshotId, liveBytes: BigInt(liveBytes), extents, storedBytes: BigInt(await allocated(files[index]!)) };
  }));
  const live = [...usage.values()].reduce((sum, { liveBytes }) => sum + liveBytes, 0);
  return {
    sizeBytes: BigInt(table.sizeBytes),
    extents: table.count,
    zeroBytes: BigInt(table.sizeBytes - live),
    sources,
  };
}

/** Bytes that a file takes on disk, as far as they are its own; a missing one takes none. */
async function allocated(path: string): Promise<number> {
  const status = await statIfPresent(path);
  return status ? Math.min(status.size, (status.blocks ?? 0) * 512) : 0;
}

type Generation = MessageInitShape<typeof SnapshotGenerationSchema>;

/** The snapshot, its ancestors as far as they are known, and everything that it reads; newest first. */
async function generations(layout: Layout, newest: Manifest, sources: string[]): Promise<Generation[]> {
  const ids = new Set([newest.snapshot_id, ...sources]);
  let ancestor: Manifest | undefined = newest;
  while (ancestor) {
    ids.add(ancestor.snapshot_id);
    const parent: string | null = ancestor.parent_id;
    ancestor = parent === null || ids.has(parent) ? undefined : await manifestOf(layout, parent);
  }
  const known = await Promise.all([...ids].map((id) => generationOf(layout, id)));
  return known.sort((a, b) => b.generation! - a.generation!);
}

/** Of an ancestor: that it is damaged is no reason to show less of the others. */
async function manifestOf(layout: Layout, snapshotId: string): Promise<Manifest | undefined> {
  const { manifest, deletedManifest } = layout.snapshot(snapshotId);
  const text = await readIfPresent(manifest) ?? await readIfPresent(deletedManifest);
  return text === undefined ? undefined : unlessCorrupt(() => parseManifest(text));
}

async function generationOf(layout: Layout, snapshotId: string): Promise<Generation> {
  const manifest = await manifestOf(layout, snapshotId);
  if (manifest) {
    const { generation, created_at } = manifest;
    const committed = await isPresent(layout.snapshot(snapshotId).manifest);
    return { snapshotId, generation, committed, storedBytes: BigInt(storedBytes(manifest)), ...at(created_at) };
  }
  const text = await readIfPresent(layout.snapshot(snapshotId).origin);
  const origin = text === undefined ? undefined : unlessCorrupt(() => parseOrigin(text));
  const stored = BigInt(await directoryBytes(layout.snapshot(snapshotId).directory));
  const common = { snapshotId, committed: false, storedBytes: stored, generation: origin?.generation ?? 0 };
  return origin ? { ...common, ...at(origin.created_at) } : common;
}

async function directoryBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await namesIn(directory)) bytes += await allocated(`${directory}/${name}`);
  return bytes;
}

function at(createdAt: string): { createdAtUnixMs: bigint } {
  return { createdAtUnixMs: BigInt(Date.parse(createdAt)) };
}
