import { NativeError } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { encodeDiskSums } from "@torpor/snapshot";
import { log } from "@torpor/telemetry";
import { isPresent, removeIfPresent, statIfPresent, writeAndSync } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { diskSumsOf } from "./checksums.ts";
import type { Reading } from "./pace.ts";
import { readSums } from "./verify_data.ts";

/**
 * Gives a whole disk checksums of what it holds now, unless it has some. A pause cannot: it would have to read all of the
 * disk while somebody waits. What has changed on the medium before this is not noticed by anybody.
 * @returns whether it has been given some.
 * @throws NativeError, Deno.errors (`disk.sums` is as it was); the signal's reason.
 */
export async function sealDisk(layout: Layout, snapshotId: string, reading: Reading): Promise<boolean> {
  const { disk, diskSums } = layout.snapshot(snapshotId);
  const before = await statIfPresent(disk);
  if (!before || await readSums(diskSums)) return false;
  const temporary = `${layout.staging}/${newId()}.sums`;
  try {
    const sums = await diskSumsOf(disk, reading);
    if (!sums) {
      log("error", "disk_unreadable", { snapshot_id: snapshotId });
      return false;
    }
    await Deno.mkdir(layout.staging, { recursive: true, mode: 0o700 });
    await writeAndSync(temporary, encodeDiskSums(sums));
    // Deleted, or become a difference meanwhile: what is left there must not get a stray file.
    if ((await statIfPresent(disk))?.ino !== before.ino) return false;
    await Deno.rename(temporary, diskSums);
    if (!await isPresent(disk)) await removeIfPresent(diskSums);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    if (error instanceof NativeError && error.code === "native_enoent") return false;
    throw error;
  } finally {
    await removeIfPresent(temporary);
  }
}
