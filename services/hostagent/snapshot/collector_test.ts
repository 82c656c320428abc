import { Buffer } from "node:buffer";
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { newId } from "@torpor/ids";
import { namesIn } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { Collector } from "./collector.ts";
import type { CompactionLimits } from "./compaction_choice.ts";
import { readDiskTable, readTable } from "./committed.ts";
import { KnownDamage } from "./damage.ts";
import { SnapshotReferences } from "./references.ts";
import type { FoundSnapshot } from "./sweep.ts";
import { hold, readSnapshot, SnapshotHistory } from "./testing/history.ts";
import { idOf, withLayout, writeSnapshot } from "./testing/write_snapshot.ts";
import { Verifier } from "./verifier.ts";
import { verifyData } from "./verify_data.ts";

const EAGER: CompactionLimits = { liveShare: 0.6, minSavedBytes: 4096, maxSources: 6 };

interface Rig {
  layout: Layout;
  references: SnapshotReferences;
  history: SnapshotHistory;
  /** What somebody holds. */
  roots: FoundSnapshot[];
  collector: Collector;
}

async function withRig(seed: number, work: (rig: Rig) => Promise<void>, limits = EAGER): Promise<void> {
  await withLayout(async (layout) => {
    for (const path of [layout.snapshots, layout.staging]) await Deno.mkdir(path, { recursive: true });
    const references = new SnapshotReferences();
    const roots: FoundSnapshot[] = [];
    using _held = hold(references, roots);
    await using collector = new Collector({ layout, references, intervalMs: 0, limits });
    await work({ layout, references, history: new SnapshotHistory(layout, seed), roots, collector });
  });
}

/** A sandbox that is paused `generations` times; only the newest one is held. */
async function chain(
  rig: Rig,
  generations: number,
  pages = { memoryPages: 200, diskPages: 200 },
): Promise<FoundSnapshot> {
  const sandboxId = newId();
  let newest = await rig.history.commit({ sandboxId, memoryPages: 600, diskPages: 1500 });
  rig.roots.push(newest);
  for (let generation = 2; generation <= generations; generation++) {
    const next = await rig.history.commit({ sandboxId, ...pages }, newest);
    rig.roots.splice(rig.roots.indexOf(newest), 1, next);
    newest = next;
  }
  return newest;
}

async function assertBytes({ layout, history }: Rig, snapshots: Iterable<FoundSnapshot>): Promise<void> {
  for (const { manifest } of snapshots) {
    const read = await readSnapshot(layout, manifest.snapshot_id);
    const expected = history.expected.get(manifest.snapshot_id)!;
    // assertEquals of megabytes takes seconds.
    assert(Buffer.compare(read.memory, expected.memory) === 0, `memory of ${manifest.snapshot_id}`);
    assert(Buffer.compare(read.disk, expected.disk) === 0, `disk of ${manifest.snapshot_id}`);
    const verdicts = (await verifyData(layout, manifest.snapshot_id)).filter(({ file }) => file !== "disk.raw");
    assertEquals(verdicts.filter(({ verdict }) => verdict !== "good"), []);
  }
}

async function memoryBytes(layout: Layout): Promise<number> {
  let bytes = 0;
  for (const id of await namesIn(layout.snapshots)) bytes += (await Deno.stat(layout.snapshot(id).memoryData)).size;
  return bytes;
}

for (const seed of [1, 2, 3, 4]) {
  Deno.test(`what is compacted reads as before and takes less: chains of random changes, seed ${seed}`, async () => {
    await withRig(seed, async (rig) => {
      const { layout, roots, collector } = rig;
      await chain(rig, 5);
      await chain(rig, 9);
      const before = await memoryBytes(layout);
      const preview = await collector.collect(true);
      assertEquals(await memoryBytes(layout), before);
      const collected = await collector.collect();
      assertEquals(preview.filter(({ action }) => action === "compacted").length > 0, true);
      assertGreater(collected.filter(({ action }) => action === "compacted").length, 0);
      await assertBytes(rig, roots);
      assertLess(await memoryBytes(layout), before);
      for (const { manifest } of roots) {
        assertLess((await readTable(layout, manifest)).sources.length, EAGER.maxSources + 1);
      }
      assertEquals(await namesIn(layout.staging), []);
      // Once more: nothing is left to be done, and nothing is needed that has gone.
      assertEquals(await collector.collect(), []);
      await assertBytes(rig, roots);
    });
  });
}

Deno.test("forks that share data go on sharing it after a compaction", async () => {
  await withRig(7, async (rig) => {
    const { layout, history, roots, collector } = rig;
    const source = await chain(rig, 3);
    const children: FoundSnapshot[] = [];
    for (let child = 0; child < 3; child++) {
      children.push(await history.commit({ sandboxId: newId(), memoryPages: 2000, diskPages: 50 }, source));
    }
    roots.splice(0, roots.length, ...children);
    await collector.collect();
    await assertBytes(rig, children);
    const tables = await Promise.all(children.map(({ manifest }) => readTable(layout, manifest)));
    const own = children.map(({ manifest }) => manifest.snapshot_id);
    const shared = tables.map(({ sources }) => sources.filter((id) => !own.includes(id)).sort());
    assertEquals(shared[1], shared[0]);
    assertEquals(shared[2], shared[0]);
    assert(!shared[0]!.includes(source.manifest.snapshot_id), "the victims were not replaced");
  });
});

Deno.test("a snapshot in use is not touched, and neither is what it reads", async () => {
  await withRig(8, async (rig) => {
    const { layout, references, roots, collector } = rig;
    const newest = await chain(rig, 6);
    await collector.collect(true);
    const before = newest.manifest;
    {
      using _pin = references.pin(newest);
      const actions = (await collector.collect()).map(({ action }) => action);
      assertEquals([actions.includes("compacted"), newest.manifest], [false, before]);
      await assertBytes(rig, roots);
    }
    assertEquals((await collector.collect()).some(({ action }) => action === "compacted"), true);
    assertEquals((await readTable(layout, newest.manifest)).generation, before.generation);
    await assertBytes(rig, roots);
  });
});

Deno.test("a disk becomes the difference to a snapshot that stays, also over generations", async () => {
  await withRig(9, async (rig) => {
    const { layout, history, roots, collector } = rig;
    const sandboxId = newId();
    const kept = await history.commit({ sandboxId, kind: "kept", memoryPages: 10, diskPages: 1500 });
    const first = await history.commit({ sandboxId: newId(), memoryPages: 10, diskPages: 60 }, kept);
    roots.push(kept, first);
    await collector.collect();
    await assertBytes(rig, roots);
    const { allocated_bytes, difference } = first.manifest.files.disk;
    assertEquals(first.diskSources?.includes(kept.manifest.snapshot_id), true);
    assertEquals((await namesIn(layout.snapshot(first.manifest.snapshot_id).directory)).includes("disk.raw"), false);
    assertLess(allocated_bytes, 61 * 4096);
    assertEquals(difference!.data.bytes, allocated_bytes);
    // Its fork keeps the chain: a difference to a difference is flat.
    const second = await history.commit({ sandboxId: newId(), memoryPages: 10, diskPages: 40 }, first);
    roots.push(second);
    await collector.collect();
    await assertBytes(rig, roots);
    const table = await readDiskTable(layout, second.manifest);
    assertEquals(
      table!.sources.toSorted(),
      [kept, first, second].map(({ manifest }) => manifest.snapshot_id).toSorted(),
    );
    // The base goes, its disk stays as long as it is read.
    roots.shift();
    await collector.collect();
    await assertBytes(rig, roots);
  });
});

Deno.test("a disk that has little in common with its parent's stays whole, and is not tried again", async () => {
  await withRig(10, async ({ history, roots, collector }) => {
    const kept = await history.commit({ sandboxId: newId(), kind: "kept", memoryPages: 1, diskPages: 300 });
    const other = await history.commit({ sandboxId: newId(), memoryPages: 1, diskPages: 6000 }, kept);
    roots.push(kept, other);
    await collector.collect();
    await collector.collect();
    assertEquals([other.manifest.files.disk.difference, other.diskSources], [undefined, undefined]);
  });
});

Deno.test("what nothing refers to goes, and what is committed but not registered yet stays", async () => {
  await withRig(11, async ({ layout, roots, collector }) => {
    roots.push(
      await writeSnapshot(layout, {
        id: idOf("c"),
        sandboxId: idOf("s"),
        generation: 3,
        sources: [idOf("a"), idOf("c")],
      }),
    );
    await writeSnapshot(layout, { id: idOf("a"), sandboxId: idOf("s"), generation: 1, sources: [idOf("a")] });
    await writeSnapshot(layout, { id: idOf("b"), sandboxId: idOf("s"), generation: 2, sources: [idOf("b")] });
    // A pause of another sandbox that has just committed, and reads what has no other reader.
    await writeSnapshot(layout, {
      id: idOf("n"),
      sandboxId: idOf("t"),
      generation: 4,
      sources: [idOf("m"), idOf("n")],
    });
    await writeSnapshot(layout, { id: idOf("m"), sandboxId: idOf("t"), generation: 3, sources: [idOf("m")] });
    await Deno.remove(layout.snapshot(idOf("m")).manifest);
    const preview = await collector.collect(true).catch((error) => error);
    assertEquals((await namesIn(layout.snapshots)).length, 5);
    assert(preview instanceof Array);
    assertEquals(preview.map(({ snapshotId }) => snapshotId).toSorted(), [idOf("a"), idOf("b"), idOf("m")]);
    assertEquals((await collector.collect()).map(({ bytes }) => bytes > 0), [true, true, true]);
    assertEquals(await namesIn(layout.snapshots), [idOf("a"), idOf("c"), idOf("m"), idOf("n")]);
    assertEquals(await namesIn(layout.snapshot(idOf("m")).directory), ["memory.data"]);
  });
});

Deno.test("a verification beside compactions, new differences and releases takes nothing for damaged", async () => {
  await withRig(14, async (rig) => {
    const { layout, references, history, roots, collector } = rig;
    const state = { beganAtMs: 0, cursor: null, damaged: [] };
    const rest = { state, damage: new KnownDamage(), intervalMs: 0, bytesPerSecond: Infinity };
    await using verifier = new Verifier({ layout, references, ...rest });
    let collecting = true;
    const [passes] = await Promise.all([
      (async () => {
        let passes = 0;
        for (; collecting; passes++) assertEquals(await verifier.verifyAll(), []);
        return passes;
      })(),
      (async () => {
        for (let round = 0; round < 4; round++) {
          await chain(rig, 5);
          const base = roots.at(-1)!;
          const kept = { kind: "kept" as const, memoryPages: 10, diskPages: 20 };
          roots.push(await history.commit({ sandboxId: base.manifest.sandbox_id, ...kept }, base));
          roots.push(await history.commit({ sandboxId: newId(), memoryPages: 10, diskPages: 20 }, roots.at(-1)));
          await collector.collect();
          roots.splice(0, 2);
        }
        collecting = false;
      })(),
    ]);
    assertGreater(passes, 4);
    await assertBytes(rig, roots);
  });
});

Deno.test("a flipped bit in any data file is found, whose ever it is", async () => {
  await withRig(13, async (rig) => {
    const { layout, collector } = rig;
    const newest = await chain(rig, 4);
    await collector.collect();
    for (const source of (await readTable(layout, newest.manifest)).sources) {
      const path = layout.snapshot(source).memoryData;
      const bytes = await Deno.readFile(path);
      bytes[bytes.length >> 1]! ^= 4;
      await Deno.writeFile(path, bytes);
      const verdicts = await verifyData(layout, newest.manifest.snapshot_id);
      assertEquals(verdicts.filter(({ verdict }) => verdict === "damaged").map(({ snapshotId }) => snapshotId), [
        source,
      ]);
      bytes[bytes.length >> 1]! ^= 4;
      await Deno.writeFile(path, bytes.subarray(1));
      assertEquals(
        (await verifyData(layout, newest.manifest.snapshot_id)).some(({ verdict }) => verdict === "damaged"),
        true,
      );
      await Deno.writeFile(path, bytes);
    }
    await assertBytes(rig, rig.roots);
  });
});
