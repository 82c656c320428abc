import { assertEquals } from "@std/assert";
import { crc32c, encodeHeader, ExtentTableBuilder, formatManifest, type Manifest } from "@torpor/snapshot";
import { namesIn } from "../storage/durable_file.ts";
import { Layout } from "../storage/layout.ts";
import { sweepSnapshots } from "./sweep.ts";

const MB = 2 ** 20;
const idOf = (letter: string) => letter.repeat(20);

/** Writes a snapshot whose table reads `sources`, one MiB each. */
async function writeSnapshot(layout: Layout, id: string, sandboxId: string, generation: number, sources: string[]) {
  const paths = layout.snapshot(id);
  await Deno.mkdir(paths.directory, { recursive: true });
  const builder = new ExtentTableBuilder("memory", generation);
  for (const source of sources) builder.addData(MB, source, 0);
  const header = encodeHeader(builder.build());
  await Deno.writeFile(paths.memoryHeader, header);
  for (const path of [paths.memoryData, paths.state, paths.disk]) await Deno.writeFile(path, new Uint8Array(1));
  const manifest: Manifest = {
    schema: 1,
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
      state: { bytes: 1, crc32c: 0 },
      memory_header: { bytes: header.length, crc32c: crc32c(header) },
      memory_data: { bytes: 1, crc32c: 0 },
      disk: { bytes: 1, allocated_bytes: 1 },
    },
    pages: { resident: 1, dirty: 1, data: 1 },
  };
  await Deno.writeTextFile(paths.manifest, formatManifest(manifest));
}

async function withLayout(work: (layout: Layout) => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  await work(new Layout(home));
  await Deno.remove(home, { recursive: true });
}

Deno.test("a sweep drops staged snapshots and finishes the release of replaced generations", async () => {
  await withLayout(async (layout) => {
    const sandbox = idOf("s");
    await writeSnapshot(layout, idOf("a"), sandbox, 1, [idOf("a")]);
    await writeSnapshot(layout, idOf("b"), sandbox, 2, [idOf("b"), idOf("a")]);
    await writeSnapshot(layout, idOf("c"), sandbox, 3, [idOf("c"), idOf("a")]);
    await writeSnapshot(layout, idOf("z"), idOf("t"), 1, [idOf("z")]);
    await Deno.mkdir(layout.staged(idOf("d")).directory, { recursive: true });
    const newest = await sweepSnapshots(layout);
    assertEquals([...newest].map(([id, { manifest }]) => [id, manifest.snapshot_id]).sort(), [
      [sandbox, idOf("c")],
      [idOf("t"), idOf("z")],
    ]);
    assertEquals(newest.get(sandbox)?.sources, [idOf("c"), idOf("a")]);
    assertEquals(await namesIn(layout.staging), []);
    assertEquals(await namesIn(layout.snapshots), [idOf("a"), idOf("c"), idOf("z")]);
    assertEquals(await namesIn(layout.snapshot(idOf("a")).directory), ["memory.data"]);
    assertEquals((await namesIn(layout.snapshot(idOf("c")).directory)).length, 5);
  });
});

Deno.test("while a table cannot be read nothing is released: what it needs is not known", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, idOf("a"), idOf("s"), 1, [idOf("a")]);
    await writeSnapshot(layout, idOf("b"), idOf("s"), 2, [idOf("b"), idOf("a")]);
    await Deno.truncate(layout.snapshot(idOf("b")).memoryHeader, 70);
    const newest = await sweepSnapshots(layout);
    assertEquals(newest.get(idOf("s"))?.sources, undefined);
    assertEquals((await namesIn(layout.snapshot(idOf("a")).directory)).length, 5);
  });
});

Deno.test("a manifest that cannot be read keeps its files and everybody else's", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, idOf("a"), idOf("s"), 1, [idOf("a")]);
    await writeSnapshot(layout, idOf("b"), idOf("s"), 2, [idOf("b")]);
    await Deno.writeTextFile(layout.snapshot(idOf("a")).manifest, "{");
    await sweepSnapshots(layout);
    assertEquals(await namesIn(layout.snapshots), [idOf("a"), idOf("b")]);
    assertEquals((await namesIn(layout.snapshot(idOf("a")).directory)).length, 5);
  });
});
