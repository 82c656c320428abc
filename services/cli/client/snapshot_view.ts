import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Snapshot, SnapshotContents, SnapshotTable, VerifiedFile } from "@torpor/proto/torpor";

/** A snapshot as the command line prints it in JSON: the fields of the REST surface. */
export function snapshotJson(snapshot: Snapshot): Record<string, unknown> {
  const { sizes } = snapshot;
  return {
    snapshot_id: snapshot.snapshotId,
    name: snapshot.name,
    kind: snapshot.kind,
    platform: snapshot.platform,
    state: snapshot.state,
    reason: snapshot.reason || null,
    sandbox_id: snapshot.sandboxId || null,
    host_id: snapshot.hostId,
    template: snapshot.template,
    vcpus: snapshot.vcpus,
    memory_mb: snapshot.memoryMb,
    disk_size_mb: snapshot.diskSizeMb,
    sizes: sizes
      ? {
        generation: sizes.generation,
        size_bytes: sizes.sizeBytes,
        memory_bytes: sizes.memoryBytes,
        disk_bytes: sizes.diskBytes,
        pages_resident: sizes.pagesResident,
        pages_dirty: sizes.pagesDirty,
        pages_data: sizes.pagesData,
        stopped_us: snapshot.stoppedUs,
      }
      : null,
    created_at: snapshot.createdAt ? timestampDate(snapshot.createdAt).toISOString() : null,
    expires_at: snapshot.expiresAt ? timestampDate(snapshot.expiresAt).toISOString() : null,
  };
}

/** What a snapshot consists of, as the REST surface has it. */
export function contentsJson(contents: SnapshotContents): Record<string, unknown> {
  return {
    manifest: readManifest(contents.manifestJson),
    memory: contents.memory ? tableJson(contents.memory) : null,
    disk: contents.disk ? tableJson(contents.disk) : null,
    generations: contents.generations.map((one) => ({
      snapshot_id: one.snapshotId,
      generation: one.generation,
      committed: one.committed,
      stored_bytes: one.storedBytes,
      created_at: one.createdAt ? timestampDate(one.createdAt).toISOString() : null,
    })),
    verified: contents.verified.map(fileJson),
    known_damage: contents.knownDamage.map(fileJson),
  };
}

function fileJson({ snapshotId, file, verdict, bytes }: VerifiedFile): Record<string, unknown> {
  return { snapshot_id: snapshotId, file, verdict, bytes };
}

/** A damaged one is null: `verified` says so. */
function readManifest(text: string): Record<string, unknown> | null {
  try {
    const manifest = JSON.parse(text);
    return typeof manifest === "object" && !Array.isArray(manifest) ? manifest : null;
  } catch {
    return null;
  }
}

function tableJson(table: SnapshotTable): Record<string, unknown> {
  return {
    size_bytes: table.sizeBytes,
    extents: table.extents,
    zero_bytes: table.zeroBytes,
    base_bytes: table.baseBytes,
    sources: table.sources.map((source) => ({
      snapshot_id: source.snapshotId,
      live_bytes: source.liveBytes,
      extents: source.extents,
      stored_bytes: source.storedBytes,
    })),
  };
}
