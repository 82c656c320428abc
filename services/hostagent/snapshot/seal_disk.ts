import { NativeError } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { ContentHasher, encodeDiskSums, formatContentName } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { isPresent, removeIfPresent, statIfPresent, writeAndSync } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { checksumOf, diskSumsOf, sameSums } from "./checksums.ts";
import type { Reading } from "./pace.ts";
import type { CheckedFile } from "./staging.ts";
import { knownOf, readContentName, readSums } from "./verify_data.ts";

/** Data of which so little is there is never worth a second name. */
export const MIN_NAMED_BYTES = 65_536;

/**
 * Gives the data of a snapshot, or of one that has gone, what somebody who reads it later compares it with: checksums to a
 * whole disk, and to each file of some size its content's hash. Each file is read once, soon after it was written.
 * @throws as {@linkcode sealDisk}.
 */
export async function sealData(layout: Layout, snapshotId: string, reading: Reading): Promise<void> {
  const { memoryData, memoryHash, diskData, diskHash } = layout.snapshot(snapshotId);
  const { memory, disk } = await knownOf(layout, snapshotId);
  await nameData(layout, { data: memoryData, name: memoryHash, expected: memory }, reading);
  await nameData(layout, { data: diskData, name: diskHash, expected: disk }, reading);
  await sealDisk(layout, snapshotId, reading);
}

/** Notes what a data file is called by its content, if it is what was written. */
async function nameData(
  layout: Layout,
  { data, name, expected }: { data: string; name: string; expected: CheckedFile | undefined },
  reading: Reading,
): Promise<void> {
  if (!expected || expected.bytes < MIN_NAMED_BYTES || !await isPresent(data) || await readContentName(name)) return;
  const before = await statIfPresent(data);
  const hasher = new ContentHasher();
  try {
    const actual = await checksumOf(data, reading, hasher);
    // A verification will say that it is damaged.
    if (actual?.bytes !== expected.bytes || actual.crc32c !== expected.crc32c) return;
    const text = formatContentName(await hasher.finish(actual.bytes));
    await putBeside(layout, { of: data, ino: before?.ino }, name, new TextEncoder().encode(text));
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** Writes `path` as a whole, unless the file that it is about has gone, or is another one by now. */
async function putBeside(
  { staging }: Layout,
  { of, ino }: { of: string; ino: number | null | undefined },
  path: string,
  content: Uint8Array,
): Promise<boolean> {
  const temporary = `${staging}/${newId()}.seal`;
  try {
    await Deno.mkdir(staging, { recursive: true, mode: 0o700 });
    await writeAndSync(temporary, content);
    // Deleted, or stored in another way meanwhile: what is left there must not get a stray file.
    if ((await statIfPresent(of))?.ino !== ino) return false;
    await Deno.rename(temporary, path);
    if (!await isPresent(of)) await removeIfPresent(path);
    return true;
  } finally {
    await removeIfPresent(temporary);
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || (error instanceof NativeError && error.code === "native_enoent");
}

/**
 * Gives a whole disk checksums of what it holds now, and its content's hash, unless it has both. A pause cannot: it would have to read all of the
 * disk while somebody waits. What has changed on the medium before this is not noticed by anybody.
 * @returns whether it has been given some.
 * @throws NativeError, Deno.errors (`disk.sums` is as it was); the signal's reason.
 */
export async function sealDisk(layout: Layout, snapshotId: string, reading: Reading): Promise<boolean> {
  const { disk, diskSums, diskHash } = layout.snapshot(snapshotId);
  const before = await statIfPresent(disk);
  if (!before) return false;
  const known = await readSums(diskSums);
  const knownName = await readContentName(diskHash);
  if (known && knownName) return false;
  const hasher = new ContentHasher();
  try {
    const sums = await diskSumsOf(disk, reading, hasher);
    if (!sums) {
      log("error", "disk_unreadable", { snapshot_id: snapshotId });
      return false;
    }
    const name = await hasher.finish(sums.sizeBytes);
    // A verification will say that it is damaged: nothing must call that good.
    if (known && !sameSums(known, sums) || knownName && knownName.sha256 !== name.sha256) return false;
    const of = { of: disk, ino: before.ino };
    const text = new TextEncoder().encode(formatContentName(name));
    return (knownName !== undefined || await putBeside(layout, of, diskHash, text)) &&
      (known !== undefined || await putBeside(layout, of, diskSums, encodeDiskSums(sums)));
  } catch (error) {
    if (!isGone(error)) throw error;
    return false;
  }
}
