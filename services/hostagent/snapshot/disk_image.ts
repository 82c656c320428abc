import { type CopyRange, copyRanges, dataRuns, openFile, type SparseCopyResult } from "@torpor/ffi";
import { type ExtentTable, ExtentTableBuilder, type Manifest, PAGE_BYTES, ZERO_SOURCE } from "@torpor/snapshot";
import { fillDisk } from "../storage/disk.ts";
import type { Layout } from "../storage/layout.ts";
import { diskFiles, readDiskTable } from "./committed.ts";

/**
 * Fills a live disk with a snapshot's: a copy of the whole one, or put together from what its table refers to. Blocks are
 * shared where the file system can; holes and zeros stay holes.
 * @param to an existing file; its content is replaced.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`; NativeError.
 */
export async function composeDisk(layout: Layout, manifest: Manifest, to: string): Promise<SparseCopyResult> {
  const { bytes } = manifest.files.disk;
  const table = await readDiskTable(layout, manifest);
  if (!table) return await fillDisk(layout.snapshot(manifest.snapshot_id).disk, to, bytes);
  using opened = new DisposableStack();
  const sources = (await diskFiles(layout, table.sources)).map((path) => opened.use(openFile(path, { read: true })).fd);
  {
    using file = Deno.openSync(to, { write: true });
    file.truncateSync(0);
    file.truncateSync(bytes);
  }
  const target = opened.use(openFile(to, { read: true, write: true }));
  return { method: "copy", bytesCopied: await copyRanges(sources, rangesOf(table), target.fd) };
}

/**
 * The table of a snapshot's disk. For a whole disk it is made from the file: its data, and zeros for its holes.
 * @throws TorporError `snapshot_missing`, `snapshot_corrupt`; NativeError.
 */
export async function diskTable(layout: Layout, manifest: Manifest): Promise<ExtentTable> {
  const table = await readDiskTable(layout, manifest);
  if (table) return table;
  const { snapshot_id, generation, files } = manifest;
  using file = openFile(layout.snapshot(snapshot_id).disk, { read: true });
  const builder = new ExtentTableBuilder("disk", generation);
  for (const { kind, pageCount, outputOffset } of await dataRuns(file.fd, files.disk.bytes)) {
    if (kind === "zero") builder.addZero(pageCount * PAGE_BYTES);
    else builder.addData(pageCount * PAGE_BYTES, snapshot_id, outputOffset);
  }
  return builder.build();
}

/** What has to be copied to where a table says. */
function rangesOf(table: ExtentTable): CopyRange[] {
  const ranges: CopyRange[] = [];
  for (let index = 0; index < table.count; index++) {
    const source = table.sourceIndexes[index]!;
    if (source === ZERO_SOURCE) continue;
    ranges.push({
      source,
      sourceOffset: table.sourceOffsets[index]!,
      targetOffset: table.offsets[index]!,
      length: table.lengths[index]!,
    });
  }
  return ranges;
}
