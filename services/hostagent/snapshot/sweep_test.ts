import { assertEquals } from "@std/assert";
import { namesIn } from "../storage/durable_file.ts";
import { collectUnreferenced } from "./collect.ts";
import { SnapshotReferences } from "./references.ts";
import { sweepSnapshots } from "./sweep.ts";
import { idOf, withLayout, writeSnapshot } from "./testing/write_snapshot.ts";

const sandboxId = idOf("s");

Deno.test("a sweep drops staged snapshots and finishes the release of replaced generations", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, { id: idOf("a"), sandboxId, generation: 1, sources: [idOf("a")] });
    await writeSnapshot(layout, { id: idOf("b"), sandboxId, generation: 2, sources: [idOf("b"), idOf("a")] });
    await writeSnapshot(layout, { id: idOf("c"), sandboxId, generation: 3, sources: [idOf("c"), idOf("a")] });
    await writeSnapshot(layout, { id: idOf("z"), sandboxId: idOf("t"), sources: [idOf("z")] });
    await Deno.mkdir(layout.staged(idOf("d")).directory, { recursive: true });
    const { newest } = await sweepSnapshots(layout);
    assertEquals([...newest].map(([id, { manifest }]) => [id, manifest.snapshot_id]).sort(), [
      [sandboxId, idOf("c")],
      [idOf("t"), idOf("z")],
    ]);
    assertEquals(newest.get(sandboxId)?.sources, [idOf("c"), idOf("a")]);
    assertEquals(await namesIn(layout.staging), []);
    assertEquals(await namesIn(layout.snapshots), [idOf("a"), idOf("c"), idOf("z")]);
    assertEquals(await namesIn(layout.snapshot(idOf("a")).directory), ["memory.data", "origin.json"]);
    assertEquals((await namesIn(layout.snapshot(idOf("c")).directory)).length, 5);
  });
});

Deno.test("a kept snapshot is never a sandbox's newest generation, and keeps what it reads", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, { id: idOf("a"), sandboxId, generation: 1, sources: [idOf("a")] });
    await writeSnapshot(layout, { id: idOf("b"), sandboxId, generation: 2, sources: [idOf("b")] });
    const kept = { id: idOf("k"), sandboxId, generation: 9, sources: [idOf("a"), idOf("k")], kind: "kept" as const };
    await writeSnapshot(layout, kept);
    const swept = await sweepSnapshots(layout);
    assertEquals(swept.newest.get(sandboxId)?.manifest.snapshot_id, idOf("b"));
    assertEquals(swept.kept.get(idOf("k"))?.sources, [idOf("a"), idOf("k")]);
    assertEquals(await namesIn(layout.snapshot(idOf("a")).directory), ["memory.data", "origin.json"]);
    assertEquals((await namesIn(layout.snapshot(idOf("k")).directory)).length, 5);
  });
});

Deno.test("a deleted snapshot stays whole while a VM runs that was resumed from it", async () => {
  await withLayout(async (layout) => {
    const deleted = { id: idOf("k"), sandboxId, sources: [idOf("a"), idOf("k")], kind: "kept" as const };
    await writeSnapshot(layout, deleted);
    await writeSnapshot(layout, { id: idOf("a"), sandboxId, sources: [idOf("a")] });
    await Deno.remove(layout.snapshot(idOf("a")).manifest);
    const { manifest, deletedManifest, directory } = layout.snapshot(idOf("k"));
    await Deno.rename(manifest, deletedManifest);
    const swept = await sweepSnapshots(layout, [idOf("k"), idOf("x")]);
    assertEquals([swept.kept.size, [...swept.parents.keys()]], [0, [idOf("k")]]);
    assertEquals((await namesIn(directory)).length, 5);
    assertEquals(await namesIn(layout.snapshot(idOf("a")).directory), ["memory.data"]);
    await sweepSnapshots(layout);
    assertEquals(await namesIn(layout.snapshots), []);
  });
});

Deno.test("while the table of a newest generation cannot be read the one before stays", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, { id: idOf("a"), sandboxId, generation: 1, sources: [idOf("a")] });
    await writeSnapshot(layout, { id: idOf("b"), sandboxId, generation: 2, sources: [idOf("b"), idOf("a")] });
    await Deno.truncate(layout.snapshot(idOf("b")).memoryHeader, 70);
    const { newest } = await sweepSnapshots(layout);
    assertEquals(newest.get(sandboxId)?.sources, undefined);
    assertEquals((await namesIn(layout.snapshot(idOf("a")).directory)).length, 5);
  });
});

Deno.test("a manifest that cannot be read keeps its files and everybody else's", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, { id: idOf("a"), sandboxId, generation: 1, sources: [idOf("a")] });
    await writeSnapshot(layout, { id: idOf("b"), sandboxId, generation: 2, sources: [idOf("b")] });
    await Deno.writeTextFile(layout.snapshot(idOf("a")).manifest, "{");
    await sweepSnapshots(layout);
    assertEquals(await namesIn(layout.snapshots), [idOf("a"), idOf("b")]);
    assertEquals((await namesIn(layout.snapshot(idOf("a")).directory)).length, 5);
  });
});

Deno.test("a sweep removes every leftover of an agent that was killed, and a collection what was released", async () => {
  await withLayout(async (layout) => {
    await writeSnapshot(layout, { id: idOf("a"), sandboxId, generation: 1, sources: [idOf("a")] });
    await writeSnapshot(layout, { id: idOf("b"), sandboxId, generation: 2, sources: [idOf("b"), idOf("a")] });
    // A release that was cut short, and one that had nothing left to do but the directory.
    await Deno.remove(layout.snapshot(idOf("a")).manifest);
    await Deno.writeTextFile(layout.snapshot(idOf("a")).newWorkingSet, "");
    await Deno.mkdir(layout.snapshot(idOf("e")).directory);
    const leave = async () => {
      for (const name of [`discarded-${idOf("x")}`, `exchange-probe-${idOf("x")}`, idOf("y")]) {
        await Deno.mkdir(`${layout.staging}/${name}`, { recursive: true });
        await Deno.writeTextFile(`${layout.staging}/${name}/memory.data`, "x");
      }
      for (const end of ["disk", "sums"]) await Deno.writeTextFile(`${layout.staging}/${idOf("z")}.${end}`, "x");
    };
    await leave();
    const { newest } = await sweepSnapshots(layout);
    assertEquals(await namesIn(layout.staging), []);
    assertEquals(await namesIn(layout.snapshots), [idOf("a"), idOf("b")]);
    assertEquals(await namesIn(layout.snapshot(idOf("a")).directory), ["memory.data"]);
    // Beside a running agent the rest may be somebody's.
    await leave();
    const references = new SnapshotReferences();
    using _held = references.watch(() => newest.values());
    await collectUnreferenced({ layout, references }, false);
    assertEquals((await namesIn(layout.staging)).length, 4);
  });
});
