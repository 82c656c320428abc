import { fileCrc32c, NativeError, openFile, sizeBytes } from "@torpor/ffi";
import { type Manifest, parseOrigin } from "@torpor/snapshot";
import { isPresent, readIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { readDiskTable, readManifest, readTable } from "./committed.ts";
import type { CheckedFile } from "./staging.ts";

/** What reading a data file in full has shown. `unchecked`: nobody knows its checksum. */
export type DataVerdict = "good" | "damaged" | "missing" | "unchecked";

/** A data file of a snapshot, or of one that it reads. */
export interface VerifiedFile {
  snapshotId: string;
  file: "memory.data" | "disk.data" | "disk.raw";
  verdict: DataVerdict;
  bytes: number;
}

/**
 * Reads every data file that a resume of a snapshot could read, and compares checksums. What {@linkcode verifySnapshot}
 * checks is not repeated. It takes the time of reading all of it.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt` when the snapshot's own manifest or tables are damaged.
 */
export async function verifyData(layout: Layout, manifest: Manifest): Promise<VerifiedFile[]> {
  const own = manifest.snapshot_id;
  const memory = await readTable(layout, manifest);
  const disk = await readDiskTable(layout, manifest);
  const verified: VerifiedFile[] = [];
  for (const id of new Set([own, ...memory.sources])) {
    verified.push(await verifyFile(layout, id, "memory.data"));
  }
  if (!disk) return [...verified, await verifyFile(layout, own, "disk.raw")];
  for (const id of new Set([own, ...disk.sources])) {
    const whole = await isPresent(layout.snapshot(id).disk);
    verified.push(await verifyFile(layout, id, whole ? "disk.raw" : "disk.data"));
  }
  return verified;
}

async function verifyFile(layout: Layout, snapshotId: string, file: VerifiedFile["file"]): Promise<VerifiedFile> {
  const paths = layout.snapshot(snapshotId);
  const path = { "memory.data": paths.memoryData, "disk.data": paths.diskData, "disk.raw": paths.disk }[file];
  if (!await isPresent(path)) return { snapshotId, file, verdict: "missing", bytes: 0 };
  using opened = openFile(path, { read: true });
  const bytes = sizeBytes(opened.fd);
  const expected = file === "disk.raw" ? undefined : await expectedOf(layout, snapshotId, file);
  if (!expected) return { snapshotId, file, verdict: "unchecked", bytes };
  const good = bytes === expected.bytes && await checksum(opened.fd, bytes) === expected.crc32c;
  return { snapshotId, file, verdict: good ? "good" : "damaged", bytes };
}

/** Undefined when the file cannot be read to its end: it is damaged, too. */
async function checksum(fd: number, bytes: number): Promise<number | undefined> {
  try {
    return await fileCrc32c(fd, bytes);
  } catch (error) {
    if (error instanceof NativeError && ["native_eio", "native_enodata"].includes(error.code)) return undefined;
    throw error;
  }
}

/** From the manifest, or from what is known of data whose manifest is gone. */
async function expectedOf(
  layout: Layout,
  snapshotId: string,
  file: "memory.data" | "disk.data",
): Promise<CheckedFile | undefined> {
  const paths = layout.snapshot(snapshotId);
  if (await isPresent(paths.manifest)) {
    const { files } = await readManifest(layout, snapshotId);
    return file === "memory.data" ? files.memory_data : files.disk.difference?.data;
  }
  const text = await readIfPresent(paths.origin);
  if (text === undefined) return undefined;
  const origin = parseOrigin(text);
  return (file === "memory.data" ? origin.memory_data : origin.disk_data) ?? undefined;
}
