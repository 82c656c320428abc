import { openFile } from "@torpor/ffi";
import type { ExtentTable, Manifest } from "@torpor/snapshot";
import type { Layout } from "../storage/layout.ts";

/** A snapshot's memory on disk. Disposing it closes the files. */
export interface OpenedMemory extends Disposable {
  /** The extent header's bytes. */
  header: Uint8Array<ArrayBuffer>;
  /** Source k of the header is sources[k]. */
  sources: number[];
}

/** Opens what a snapshot's table reads. It must be in use, so that its files are not exchanged meanwhile. @throws Deno.errors, NativeError. */
export async function openStored(
  layout: Layout,
  { manifest, table }: { manifest: Manifest; table: ExtentTable },
): Promise<OpenedMemory> {
  const header = await Deno.readFile(layout.snapshot(manifest.snapshot_id).memoryHeader);
  using opened = new DisposableStack();
  const sources = table.sources.map((id) => opened.use(openFile(layout.snapshot(id).memoryData, { read: true })).fd);
  const files = opened.move();
  return { header, sources, [Symbol.dispose]: () => files.dispose() };
}
