import { crc32c, encodeHeader, ExtentTableBuilder, formatManifest, type Manifest } from "@torpor/snapshot";
import { Layout } from "../../storage/layout.ts";
import type { FoundSnapshot } from "../sweep.ts";

const MIB = 2 ** 20;

/** An id that is easy to tell from others: one letter, twenty times. */
export function idOf(letter: string): string {
  return letter.repeat(20);
}

/** What {@linkcode writeSnapshot} writes. */
export interface SnapshotToWrite {
  id: string;
  sandboxId: string;
  /** Default 1. */
  generation?: number;
  /** Snapshots that its table reads, one MiB each. */
  sources: string[];
  /** Default `generation`. */
  kind?: Manifest["kind"];
}

/** Writes a committed snapshot with a real manifest and a real extent table; its other files have one byte. */
export async function writeSnapshot(layout: Layout, snapshot: SnapshotToWrite): Promise<FoundSnapshot> {
  const { id, sandboxId, generation = 1, sources, kind = "generation" } = snapshot;
  const paths = layout.snapshot(id);
  await Deno.mkdir(paths.directory, { recursive: true });
  const builder = new ExtentTableBuilder("memory", generation);
  for (const source of sources) builder.addData(MIB, source, 0);
  const header = encodeHeader(builder.build());
  await Deno.writeFile(paths.memoryHeader, header);
  for (const path of [paths.memoryData, paths.state, paths.disk]) await Deno.writeFile(path, new Uint8Array(1));
  const manifest: Manifest = {
    schema: 2,
    kind,
    name: "",
    snapshot_id: id,
    sandbox_id: sandboxId,
    parent_id: null,
    generation,
    created_at: new Date().toISOString(),
    vmm: { driver: "qemu", version: "7.2.22", machine: "m", cpu_model: "max", accelerator: "tcg", host_cpu: "" },
    vcpus: 1,
    memory_mb: sources.length,
    disk_size_mb: 1,
    template: "base",
    base_image: "0".repeat(32),
    agent_protocol: 1,
    files: {
      state: { bytes: 1, crc32c: crc32c(new Uint8Array(1)) },
      memory_header: { bytes: header.length, crc32c: crc32c(header) },
      memory_data: { bytes: 1, crc32c: crc32c(new Uint8Array(1)) },
      disk: { bytes: 1, allocated_bytes: 1 },
    },
    pages: { resident: 1, dirty: 1, data: 1 },
  };
  await Deno.writeTextFile(paths.manifest, formatManifest(manifest));
  return { manifest, sources };
}

/** Runs `work` with an empty data directory. */
export async function withLayout(work: (layout: Layout) => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  try {
    await work(new Layout(home));
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}
