import { decodeHeader, extentsOf, type ExtentTable, ZERO_SOURCE } from "@torpor/snapshot";
import type { Layout } from "../../../services/hostagent/storage/layout.ts";
import type { GuestImage } from "./guest_image.ts";

/**
 * What a snapshot's files say, read without the pager and without the host agent's own readers: each extent of the tables
 * from its source's file. A disk is whole, or a difference with a table.
 */
export async function readStoredImage(layout: Layout, snapshotId: string): Promise<GuestImage> {
  const paths = layout.snapshot(snapshotId);
  const memory = await readTable(paths.memoryHeader, (source) => Deno.readFile(layout.snapshot(source).memoryData));
  const disk = await isFile(paths.disk)
    ? await Deno.readFile(paths.disk)
    : await readTable(paths.diskHeader, (source) => readDisk(layout, source));
  return { memory, disk, registers: await Deno.readFile(paths.state) };
}

async function readTable(
  header: string,
  readSource: (id: string) => Promise<Uint8Array<ArrayBuffer>>,
): Promise<Uint8Array<ArrayBuffer>> {
  const table: ExtentTable = decodeHeader(await Deno.readFile(header));
  const bytes = new Uint8Array(table.sizeBytes);
  const sources = await Promise.all(table.sources.map(readSource));
  for (const { offset, length, source, sourceOffset } of extentsOf(table)) {
    if (source === ZERO_SOURCE) continue;
    const stored = sources[source]!.subarray(sourceOffset, sourceOffset + length);
    if (stored.length !== length) throw new Error(`the data of ${table.sources[source]} ends inside of an extent`);
    bytes.set(stored, offset);
  }
  return bytes;
}

async function readDisk(layout: Layout, source: string): Promise<Uint8Array<ArrayBuffer>> {
  const { disk, diskData } = layout.snapshot(source);
  return await Deno.readFile(await isFile(disk) ? disk : diskData);
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
