import { exportMemory, memfdCreate, openFile, pread, pwrite } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import {
  crc32c,
  encodeHeader,
  type ExtentTable,
  formatManifest,
  type Manifest,
  overlayTable,
  PAGE_BYTES,
  ZERO_SOURCE,
} from "@torpor/snapshot";
import type { Layout } from "../../storage/layout.ts";
import { verifySnapshot } from "../committed.ts";
import { composeDisk } from "../disk_image.ts";
import type { SnapshotReferences } from "../references.ts";
import { found, type FoundSnapshot } from "../sweep.ts";

const MIB = 2 ** 20;
export const MEMORY_MIB = 2;
export const DISK_MIB = 4;

/** What a snapshot must read as. */
export interface Expected {
  memory: Uint8Array<ArrayBuffer>;
  disk: Uint8Array<ArrayBuffer>;
}

/** Random numbers that come again with the same seed (mulberry32). */
export function randomOf(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) % limit;
  };
}

/** Writes committed snapshots with real data, and knows what each of them must read as. */
export class SnapshotHistory {
  readonly expected = new Map<string, Expected>();
  readonly #layout: Layout;
  readonly #random: (limit: number) => number;

  constructor(layout: Layout, seed: number) {
    this.#layout = layout;
    this.#random = randomOf(seed);
  }

  /** Changes pages of what a parent has, or starts with some, and commits the result. */
  async commit(
    of: { sandboxId: string; kind?: Manifest["kind"]; memoryPages: number; diskPages: number },
    parent?: FoundSnapshot,
  ): Promise<FoundSnapshot> {
    const id = newId();
    const before = parent && this.expected.get(parent.manifest.snapshot_id)!;
    const memory = this.#changed(before?.memory ?? new Uint8Array(MEMORY_MIB * MIB), of.memoryPages);
    const disk = this.#changed(before?.disk ?? new Uint8Array(DISK_MIB * MIB), of.diskPages);
    this.expected.set(id, { memory: memory.bytes, disk: disk.bytes });
    const manifest = await this.#write(id, of.sandboxId, of.kind ?? "generation", parent, memory, disk.bytes);
    return await found(this.#layout, manifest);
  }

  #changed(
    before: Uint8Array<ArrayBuffer>,
    pages: number,
  ): { bytes: Uint8Array<ArrayBuffer>; dirty: Uint8Array<ArrayBuffer> } {
    const bytes = before.slice();
    const count = bytes.length / PAGE_BYTES;
    const dirty = new Uint8Array(Math.ceil(count / 8));
    for (let change = 0; change < pages; change++) {
      const page = this.#random(count);
      const value = this.#random(5) === 0 ? 0 : 1 + this.#random(255);
      bytes.fill(value, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      if (value) new DataView(bytes.buffer).setUint32(page * PAGE_BYTES, this.#random(2 ** 32));
      dirty[page >> 3]! |= 1 << (page & 7);
    }
    return { bytes, dirty };
  }

  async #write(
    id: string,
    sandboxId: string,
    kind: Manifest["kind"],
    parent: FoundSnapshot | undefined,
    memory: { bytes: Uint8Array<ArrayBuffer>; dirty: Uint8Array<ArrayBuffer> },
    disk: Uint8Array<ArrayBuffer>,
  ): Promise<Manifest> {
    const paths = this.#layout.snapshot(id);
    await Deno.mkdir(paths.directory, { recursive: true });
    const generation = (parent?.manifest.generation ?? 0) + 1;
    const { exported, table } = await this.#exportMemory(id, generation, parent, memory);
    const header = encodeHeader(table);
    await Deno.writeFile(paths.memoryHeader, header);
    await Deno.writeFile(paths.state, new Uint8Array([generation]));
    await writeSparse(paths.disk, disk);
    const { size, blocks } = await Deno.stat(paths.disk);
    const manifest: Manifest = {
      schema: 2,
      kind,
      name: "",
      snapshot_id: id,
      sandbox_id: sandboxId,
      parent_id: parent?.manifest.snapshot_id ?? null,
      generation,
      created_at: new Date().toISOString(),
      vmm: { driver: "qemu", version: "7.2.22", machine: "m", cpu_model: "max", accelerator: "tcg", host_cpu: "" },
      vcpus: 1,
      memory_mb: MEMORY_MIB,
      disk_size_mb: DISK_MIB,
      template: "base",
      base_image: "0".repeat(32),
      agent_protocol: 1,
      files: {
        state: { bytes: 1, crc32c: crc32c(new Uint8Array([generation])) },
        memory_header: { bytes: header.length, crc32c: crc32c(header) },
        memory_data: { bytes: exported.bytesWritten, crc32c: exported.crc32c },
        disk: { bytes: size, allocated_bytes: (blocks ?? 0) * 512 },
      },
      pages: { resident: 0, dirty: exported.dataPages, data: 0 },
    };
    await Deno.writeTextFile(paths.manifest, formatManifest(manifest));
    return manifest;
  }

  async #exportMemory(
    id: string,
    generation: number,
    parent: FoundSnapshot | undefined,
    { bytes, dirty }: { bytes: Uint8Array<ArrayBuffer>; dirty: Uint8Array<ArrayBuffer> },
  ) {
    const paths = this.#layout.snapshot(id);
    using memfd = memfdCreate("memory", bytes.length);
    await pwrite(memfd.fd, bytes, 0);
    using output = openFile(paths.memoryData, { read: true, write: true, create: true });
    const sizeBytes = bytes.length;
    const changes = parent ? dirty : null;
    const exported = await exportMemory({ memfd: memfd.fd, sizeBytes, dirty: changes, output: output.fd });
    const parentTable = parent && (await verifySnapshot(this.#layout, parent.manifest.snapshot_id)).table;
    const { runs } = exported;
    const table = overlayTable(parentTable, { snapshotId: id, kind: "memory", generation, sizeBytes, runs });
    return { exported, table };
  }
}

/** What a resume of a snapshot would read, after all that it checks. */
export async function readSnapshot(layout: Layout, snapshotId: string): Promise<Expected> {
  const { manifest, table } = await verifySnapshot(layout, snapshotId);
  const memory = await readMemory(layout, table);
  const path = await Deno.makeTempFile();
  await composeDisk(layout, manifest, path);
  const disk = await Deno.readFile(path);
  await Deno.remove(path);
  return { memory, disk };
}

async function readMemory(layout: Layout, table: ExtentTable): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(table.sizeBytes);
  using opened = new DisposableStack();
  const files = table.sources.map((id) => opened.use(openFile(layout.snapshot(id).memoryData, { read: true })).fd);
  for (let index = 0; index < table.count; index++) {
    const source = table.sourceIndexes[index]!;
    if (source === ZERO_SOURCE) continue;
    const part = new Uint8Array(table.lengths[index]!);
    await pread(files[source]!, part, table.sourceOffsets[index]!);
    bytes.set(part, table.offsets[index]!);
  }
  return bytes;
}

/** Pages of zeros stay holes. */
async function writeSparse(path: string, bytes: Uint8Array): Promise<void> {
  using file = await Deno.open(path, { write: true, createNew: true });
  file.truncateSync(bytes.length);
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const page = bytes.subarray(at, at + PAGE_BYTES);
    if (page.every((byte) => byte === 0)) continue;
    file.seekSync(at, Deno.SeekMode.Start);
    file.writeSync(page);
  }
}

/** Snapshots that are held as a host agent would hold them. */
export function hold(references: SnapshotReferences, snapshots: FoundSnapshot[]): Disposable {
  return references.watch(() => snapshots);
}
