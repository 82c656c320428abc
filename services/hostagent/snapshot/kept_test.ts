import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { namesIn } from "../storage/durable_file.ts";
import { KeptSnapshots } from "./kept.ts";
import { SnapshotReferences } from "./references.ts";
import { releaseSnapshots } from "./release.ts";
import type { FoundSnapshot } from "./sweep.ts";
import { idOf, withLayout, writeSnapshot } from "./testing/write_snapshot.ts";

const [sandboxId, snapshotId] = [idOf("s"), idOf("k")];

Deno.test("a kept snapshot is deleted with the data that only it reads", async () => {
  await withLayout(async (layout) => {
    const references = new SnapshotReferences();
    const kept = new KeptSnapshots(layout, references);
    kept.add(await writeSnapshot(layout, { id: snapshotId, sandboxId, sources: [idOf("a"), idOf("b")], kind: "kept" }));
    const child = await writeSnapshot(layout, { id: idOf("c"), sandboxId: idOf("t"), sources: [idOf("b"), idOf("c")] });
    for (const id of [idOf("a"), idOf("b")]) await writeSnapshot(layout, { id, sandboxId, sources: [id] });
    using _child = references.pin(child);
    await kept.delete(snapshotId);
    await kept.delete(snapshotId);
    assertEquals(kept.list(), []);
    assertEquals(await namesIn(layout.snapshots), [idOf("b"), idOf("c")]);
    assertEquals(await namesIn(layout.snapshot(idOf("b")).directory), ["memory.data", "origin.json"]);
    assertEquals((await namesIn(layout.snapshot(idOf("c")).directory)).length, 5);
  });
});

Deno.test("a snapshot that is deleted while it is used stays until it is no longer", async () => {
  await withLayout(async (layout) => {
    const references = new SnapshotReferences();
    const kept = new KeptSnapshots(layout, references);
    const found = await writeSnapshot(layout, { id: snapshotId, sandboxId, sources: [snapshotId], kind: "kept" });
    kept.add(found);
    const users: FoundSnapshot[] = [found];
    using _users = references.watch(() => users);
    await kept.delete(snapshotId);
    assertEquals(assertThrows(() => kept.get(snapshotId), TorporError).code, "snapshot_not_found");
    const files = await namesIn(layout.snapshot(snapshotId).directory);
    assertEquals([files.length, files.includes("manifest.json")], [5, false]);
    users.pop();
    await releaseSnapshots(layout, references, [found]);
    assertEquals(await namesIn(layout.snapshots), []);
  });
});

Deno.test("an id is given to one snapshot only, also while it is being made and while its data is left", async () => {
  await withLayout(async (layout) => {
    const kept = new KeptSnapshots(layout, new SnapshotReferences());
    const refused = async () => (await assertRejects(() => kept.reserve(snapshotId), TorporError)).code;
    {
      using _first = await kept.reserve(snapshotId);
      assertEquals(await refused(), "already_exists");
      assertEquals((await assertRejects(() => kept.delete(snapshotId), TorporError)).code, "conflict");
    }
    using _second = await kept.reserve(snapshotId);
    await Deno.mkdir(layout.snapshot(idOf("l")).directory, { recursive: true });
    await assertRejects(() => kept.reserve(idOf("l")), TorporError);
  });
});

Deno.test("what is no id never becomes a path", async () => {
  await withLayout(async (layout) => {
    const kept = new KeptSnapshots(layout, new SnapshotReferences());
    for (const hostile of ["", "../../etc", "a".repeat(21), "A".repeat(20), `${"a".repeat(19)}/`]) {
      assertEquals((await assertRejects(() => kept.delete(hostile), TorporError)).code, "invalid_argument");
      assertEquals(assertThrows(() => kept.get(hostile), TorporError).code, "invalid_argument");
    }
  });
});
