import { z } from "@hono/zod-openapi";
import type { InspectSnapshotResponse, SnapshotTable } from "@torpor/proto/hostagent";
import { TorporError } from "@torpor/errors";
import type { HostCollection } from "../../handlers/snapshots.ts";
import { isoTime } from "./time.ts";

const sourceView = z.object({
  snapshot_id: z.string(),
  live_bytes: z.int().openapi({ description: "Bytes of it that this table reads." }),
  extents: z.int(),
  stored_bytes: z.int().openapi({ description: "Bytes that its data file stores." }),
});

const tableView = z.object({
  size_bytes: z.int(),
  extents: z.int(),
  zero_bytes: z.int(),
  base_bytes: z.int().openapi({ description: "Disk: the base image's, or never written." }),
  sources: z.array(sourceView),
}).openapi("SnapshotTable");

export const contentsView = z.object({
  manifest: z.record(z.string(), z.unknown()).openapi({ description: "As it is on disk." }),
  memory: tableView.nullable(),
  disk: tableView.nullable(),
  generations: z.array(z.object({
    snapshot_id: z.string(),
    generation: z.int(),
    committed: z.boolean().openapi({ description: "false: only data is left, because a later one reads that." }),
    stored_bytes: z.int(),
    created_at: z.iso.datetime().nullable(),
  })).openapi({ description: "From the newest to the oldest that is still known." }),
  verified: z.array(z.object({
    snapshot_id: z.string(),
    file: z.string().openapi({ description: "memory.data, disk.data or disk.raw." }),
    verdict: z.string().openapi({
      description: "good, damaged, missing, or unchecked: nobody knows its checksum.",
    }),
    bytes: z.int(),
  })).openapi({ description: "With `verify=true`: every data file that a resume could read. Else empty." }),
}).openapi("SnapshotContents");

/** What a snapshot consists of. @throws TorporError `snapshot_corrupt` when its manifest is no JSON object. */
export function viewContents(contents: InspectSnapshotResponse): z.input<typeof contentsView> {
  return {
    manifest: readManifest(contents.manifestJson),
    memory: viewTable(contents.memory),
    disk: viewTable(contents.disk),
    generations: contents.generations.map((one) => ({
      snapshot_id: one.snapshotId,
      generation: one.generation,
      committed: one.committed,
      stored_bytes: Number(one.storedBytes),
      created_at: one.createdAtUnixMs === 0n ? null : isoTime(one.createdAtUnixMs),
    })),
    verified: contents.verified.map(({ snapshotId, file, verdict, bytes }) => ({
      snapshot_id: snapshotId,
      file,
      verdict,
      bytes: Number(bytes),
    })),
  };
}

function readManifest(text: string): Record<string, unknown> {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch (cause) {
    throw new TorporError("snapshot_corrupt", "the manifest is not a JSON object", { cause });
  }
}

function viewTable(table: SnapshotTable | undefined): z.input<typeof tableView> | null {
  if (!table) return null;
  return {
    size_bytes: Number(table.sizeBytes),
    extents: table.extents,
    zero_bytes: Number(table.zeroBytes),
    base_bytes: Number(table.baseBytes),
    sources: table.sources.map((source) => ({
      snapshot_id: source.snapshotId,
      live_bytes: Number(source.liveBytes),
      extents: source.extents,
      stored_bytes: Number(source.storedBytes),
    })),
  };
}

export const collectionView = z.object({
  dry_run: z.boolean(),
  bytes: z.int().openapi({ description: "Given back on all hosts, or what would be." }),
  hosts: z.array(z.object({
    host_id: z.string(),
    error_code: z.string().nullable().openapi({ description: "Why this host did not answer." }),
    bytes: z.int(),
    collected: z.array(z.object({
      snapshot_id: z.string(),
      action: z.string().openapi({ description: '"unreferenced": nothing reads it. "compacted": copied together.' }),
      bytes: z.int(),
    })),
  })),
}).openapi("Collection");

/** What the hosts have collected. */
export function viewCollection(dryRun: boolean, hosts: HostCollection[]): z.input<typeof collectionView> {
  return {
    dry_run: dryRun,
    bytes: hosts.reduce((sum, host) => sum + Number(host.bytes), 0),
    hosts: hosts.map((host) => ({
      host_id: host.hostId,
      error_code: host.errorCode || null,
      bytes: Number(host.bytes),
      collected: host.collected.map(({ snapshotId, action, bytes }) => ({
        snapshot_id: snapshotId,
        action,
        bytes: Number(bytes),
      })),
    })),
  };
}
