import { decodeHeader, extentsOf, ZERO_SOURCE } from "@torpor/snapshot";
import type { Layout } from "../../../services/hostagent/storage/layout.ts";
import type { GuestImage } from "./guest_image.ts";

/**
 * What a snapshot's files say, read without the pager and without the host agent's own reader: each extent of the table
 * from its source's file.
 */
export async function readStoredImage(layout: Layout, snapshotId: string): Promise<GuestImage> {
  const paths = layout.snapshot(snapshotId);
  const table = decodeHeader(await Deno.readFile(paths.memoryHeader));
  const memory = new Uint8Array(table.sizeBytes);
  const sources = await Promise.all(table.sources.map((id) => Deno.readFile(layout.snapshot(id).memoryData)));
  for (const { offset, length, source, sourceOffset } of extentsOf(table)) {
    if (source === ZERO_SOURCE) continue;
    const bytes = sources[source]!.subarray(sourceOffset, sourceOffset + length);
    if (bytes.length !== length) throw new Error(`memory.data of ${table.sources[source]} ends inside of an extent`);
    memory.set(bytes, offset);
  }
  return { memory, disk: await Deno.readFile(paths.disk), registers: await Deno.readFile(paths.state) };
}
