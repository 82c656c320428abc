import { z } from "@hono/zod-openapi";
import type { InspectSnapshotResponse, SnapshotTable, VerifiedFile } from "@torpor/proto/hostagent";
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

const fileView = z.object({
  snapshot_id: z.string(),
  file: z.string().openapi({
    description: "manifest.json, state, memory.header, memory.data, disk.header, disk.data or disk.raw.",
  }),
  verdict: z.string().openapi({
    description: "good, damaged, missing, or unchecked: nobody knows its checksum.",
  }),
  bytes: z.int(),
});

export const contentsView = z.object({
  manifest: z.record(z.string(), z.unknown()).nullable().openapi({
    description: "As it is on disk; null when that is not a JSON object.",
  }),
  memory: tableView.nullable(),
  disk: tableView.nullable(),
  generations: z.array(z.object({
    snapshot_id: z.string(),
    generation: z.int(),
    committed: z.boolean().openapi({ description: "false: only data is left, because a later one reads that." }),
    stored_bytes: z.int(),
    created_at: z.iso.datetime().nullable(),
  })).openapi({ description: "From the newest to the oldest that is still known." }),
  verified: z.array(fileView).openapi({
    description: "With `verify=true`: every file that a resume could read. Else empty.",
  }),
  known_damage: z.array(fileView).openapi({
    description: "What earlier verifications have found damaged or missing, also those in the background.",
  }),
}).openapi("SnapshotContents");

/** What a snapshot consists of. */
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
    verified: contents.verified.map(viewFile),
    known_damage: contents.knownDamage.map(viewFile),
  };
}

function viewFile({ snapshotId, file, verdict, bytes }: VerifiedFile): z.input<typeof fileView> {
  return { snapshot_id: snapshotId, file, verdict, bytes: Number(bytes) };
}

/** A damaged one is null: `verified` says so, and the rest of the answer is what somebody needs who looks for the damage. */
function readManifest(text: string): Record<string, unknown> | null {
  try {
    return z.record(z.string(), z.unknown()).safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
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
