import { Buffer } from "node:buffer";
import { assert, assertEquals, assertGreater } from "@std/assert";
import { newId } from "@torpor/ids";
import { namesIn } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { Collector } from "./collector.ts";
import { KeptSnapshots } from "./kept.ts";
import { SnapshotReferences } from "./references.ts";
import { type FoundSnapshot, sweepSnapshots } from "./sweep.ts";
import type { TableReads } from "./table_reads.ts";
import { hold, readSnapshot, SnapshotHistory } from "./testing/history.ts";
import { idOf, withLayout, writeSnapshot } from "./testing/write_snapshot.ts";

const [damaged, parent, nobody, other] = ["d", "p", "x", "o"].map(idOf) as [string, string, string, string];

/**
 * A snapshot with a damaged manifest that reads its parent's data, one that nothing refers to and whose release was cut
 * short, and a sandbox that is well.
 */
async function writeHost(layout: Layout): Promise<FoundSnapshot> {
  const sandboxId = idOf("s");
  await writeSnapshot(layout, { id: parent, sandboxId, sources: [parent] });
  await Deno.remove(layout.snapshot(parent).manifest);
  await writeSnapshot(layout, { id: damaged, sandboxId, generation: 2, sources: [damaged, parent] });
  await Deno.writeTextFile(layout.snapshot(damaged).manifest, "{");
  await writeSnapshot(layout, { id: nobody, sandboxId: idOf("t"), sources: [nobody] });
  await Deno.remove(layout.snapshot(nobody).manifest);
  return await writeSnapshot(layout, { id: other, sandboxId: idOf("u"), generation: 3, sources: [other] });
}

function collectorOf(layout: Layout, references: SnapshotReferences): Collector {
  return new Collector({
    layout,
    references,
    intervalMs: 0,
    limits: { liveShare: 1, minSavedBytes: 1, maxSources: 6 },
  });
}

/** With the names in each directory: "x: state" is what is left of x. */
async function left(layout: Layout): Promise<Record<string, string[]>> {
  const ids = await namesIn(layout.snapshots);
  return Object.fromEntries(
    await Promise.all(ids.map(async (id) => [id[0], await namesIn(layout.snapshot(id).directory)])),
  );
}

const ALL = ["disk.raw", "manifest.json", "memory.data", "memory.header", "state"];

for (const how of ["a sweep", "a collection"]) {
  Deno.test(`${how} keeps a snapshot whose manifest is damaged and what its tables read, and releases the rest`, async () => {
    await withLayout(async (layout) => {
      const root = await writeHost(layout);
      const references = new SnapshotReferences();
      using _held = hold(references, [root]);
      if (how === "a sweep") {
        const swept = await sweepSnapshots(layout);
        assertEquals([...swept.damaged], [[damaged, { sources: [damaged, parent] }]]);
      } else {
        await using collector = collectorOf(layout, references);
        assertEquals((await collector.collect(true)).map(({ snapshotId }) => snapshotId), [parent, nobody]);
        assertEquals((await namesIn(layout.snapshots)).length, 4);
        await collector.collect();
        assertEquals(references.damaged(), [
          { snapshotId: damaged, file: "manifest.json", sandboxId: "", referencesKnown: true },
        ]);
      }
      assertEquals(await left(layout), { d: ALL, p: ["memory.data"], o: ALL });
    });
  });

  Deno.test(`${how} keeps all data while somebody's table is damaged, and nothing else that nobody needs`, async () => {
    await withLayout(async (layout) => {
      const root = await writeHost(layout);
      await Deno.truncate(layout.snapshot(damaged).memoryHeader, 70);
      const references = new SnapshotReferences();
      using _held = hold(references, [root]);
      if (how === "a sweep") await sweepSnapshots(layout);
      else {
        await using collector = collectorOf(layout, references);
        await collector.collect();
        assertEquals(references.damaged().map(({ referencesKnown }) => referencesKnown), [false]);
        // Nothing is told that does not go.
        assertEquals(await collector.collect(), []);
      }
      const data = ["disk.raw", "memory.data"];
      assertEquals(await left(layout), { d: ALL, p: data, x: data, o: ALL });
    });
  });
}

Deno.test("a damaged snapshot that is deleted goes, with what only it reads", async () => {
  await withLayout(async (layout) => {
    const root = await writeHost(layout);
    const references = new SnapshotReferences();
    using _held = hold(references, [root]);
    const kept = new KeptSnapshots(layout, references);
    const [[id, reads]] = [...(await sweepSnapshots(layout)).damaged] as [[string, TableReads]];
    references.noteDamaged(id, reads);
    await kept.delete(damaged);
    assertEquals([references.damaged(), await left(layout)], [[], { o: ALL }]);
  });
});

Deno.test("an older generation stays while the newest one of its sandbox has a damaged table", async () => {
  await withLayout(async (layout) => {
    for (const [id, generation] of [["a", 1], ["b", 2]] as const) {
      await writeSnapshot(layout, { id: idOf(id), sandboxId: idOf("s"), generation, sources: [idOf(id)] });
    }
    await Deno.truncate(layout.snapshot(idOf("b")).memoryHeader, 70);
    const { newest } = await sweepSnapshots(layout);
    const references = new SnapshotReferences();
    using _held = hold(references, [...newest.values()]);
    await using collector = collectorOf(layout, references);
    await collector.collect();
    assertEquals(await left(layout), { a: ALL, b: ALL });
    assertEquals(references.damaged(), [
      { snapshotId: idOf("b"), file: "memory.header", sandboxId: idOf("s"), referencesKnown: false },
    ]);
  });
});

Deno.test("beside a damaged manifest data is compacted, but for what the damaged snapshot reads", async () => {
  await withLayout(async (layout) => {
    for (const path of [layout.snapshots, layout.staging]) await Deno.mkdir(path, { recursive: true });
    const history = new SnapshotHistory(layout, 31);
    const chain = async () => {
      const sandboxId = newId();
      const first = await history.commit({ sandboxId, memoryPages: 400, diskPages: 10 });
      return [first, await history.commit({ sandboxId, memoryPages: 300, diskPages: 10 }, first)] as const;
    };
    const [[base, broken], [, sound]] = [await chain(), await chain()];
    const { manifest } = layout.snapshot(broken.manifest.snapshot_id);
    const good = await Deno.readTextFile(manifest);
    await Deno.writeTextFile(manifest, good.slice(0, -20));
    const references = new SnapshotReferences();
    const swept = await sweepSnapshots(layout);
    for (const [id, reads] of swept.damaged) references.noteDamaged(id, reads);
    using _held = hold(references, [sound]);
    await using collector = collectorOf(layout, references);
    const collected = await collector.collect();
    assertGreater(collected.filter(({ action }) => action === "compacted").length, 0);
    assert(!collected.some(({ snapshotId }) => snapshotId === base.manifest.snapshot_id));
    await Deno.writeTextFile(manifest, good);
    for (const { manifest: { snapshot_id: id } } of [broken, sound]) {
      const [read, expected] = [await readSnapshot(layout, id), history.expected.get(id)!];
      assert(Buffer.compare(read.memory, expected.memory) === 0 && Buffer.compare(read.disk, expected.disk) === 0);
    }
  });
});
