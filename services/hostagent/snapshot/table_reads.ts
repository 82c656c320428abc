import type { Layout } from "../storage/layout.ts";
import { isPresent } from "../storage/durable_file.ts";
import { tableIn } from "./verify_data.ts";

/** Whose data the tables of a snapshot read. */
export interface TableReads {
  /** Snapshots that its table reads; undefined when a table of it is damaged. */
  sources: string[] | undefined;
  /** Snapshots whose disks its disk table reads; absent when its disk is whole. */
  diskSources?: string[];
}

/** What is known without a manifest: the tables have checksums of their own. */
export async function readsWithoutManifest(layout: Layout, snapshotId: string): Promise<TableReads> {
  const paths = layout.snapshot(snapshotId);
  const memory = await tableIn(paths.memoryHeader, "memory");
  if (await isPresent(paths.disk)) return { sources: memory?.sources };
  const disk = await tableIn(paths.diskHeader, "disk");
  return disk && memory ? { sources: memory.sources, diskSources: disk.sources } : { sources: undefined };
}
