import { Buffer } from "node:buffer";
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { isPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { Collector } from "./collector.ts";
import { UNPACED } from "./pace.ts";
import { SnapshotReferences } from "./references.ts";
import { releaseSnapshots } from "./release.ts";
import { sealData } from "./seal_disk.ts";
import { shareEqualData } from "./share_equal.ts";
import type { FoundSnapshot } from "./sweep.ts";
import { hold, readSnapshot, SnapshotHistory } from "./testing/history.ts";
import { withLayout } from "./testing/write_snapshot.ts";
import { readContentName, verifyData } from "./verify_data.ts";

interface Twins {
  layout: Layout;
  references: SnapshotReferences;
  history: SnapshotHistory;
  roots: FoundSnapshot[];
}

/** Two sandboxes that nobody would know to be alike, whose data is; and one that differs. */
async function withTwins(work: (twins: Twins) => Promise<void>): Promise<void> {
  await withLayout(async (layout) => {
    for (const path of [layout.snapshots, layout.staging]) await Deno.mkdir(path, { recursive: true });
    const references = new SnapshotReferences();
    const [history, twin] = [new SnapshotHistory(layout, 5), new SnapshotHistory(layout, 5)];
    const pages = { memoryPages: 300, diskPages: 300 };
    const roots = [
      await history.commit({ sandboxId: newId(), ...pages }),
      await twin.commit({ sandboxId: newId(), ...pages }),
      await history.commit({ sandboxId: newId(), ...pages }),
    ];
    for (const [id, bytes] of twin.expected) history.expected.set(id, bytes);
    using _held = hold(references, roots);
    for (const { manifest } of roots) await sealData(layout, manifest.snapshot_id, UNPACED);
    await work({ layout, references, history, roots });
  });
}

async function assertReads({ layout, history }: Twins, snapshots: FoundSnapshot[]): Promise<void> {
  for (const { manifest: { snapshot_id } } of snapshots) {
    const [read, expected] = [await readSnapshot(layout, snapshot_id), history.expected.get(snapshot_id)!];
    assert(Buffer.compare(read.memory, expected.memory) === 0 && Buffer.compare(read.disk, expected.disk) === 0);
    const verdicts = (await verifyData(layout, snapshot_id)).map(({ verdict }) => verdict);
    assertEquals(verdicts.filter((verdict) => verdict !== "good"), []);
  }
}

async function inodes(layout: Layout, roots: FoundSnapshot[], file: "memoryData" | "disk"): Promise<(number | null)[]> {
  const paths = roots.map(({ manifest }) => layout.snapshot(manifest.snapshot_id)[file]);
  return await Promise.all(paths.map(async (path) => (await Deno.stat(path)).ino));
}

Deno.test("equal data is stored once, and stays until the last one that reads it is released", async () => {
  await withTwins(async (twins) => {
    const { layout, references, roots } = twins;
    await using collector = new Collector({ layout, references, intervalMs: 0 });
    await collector.collect();
    for (const file of ["memoryData", "disk"] as const) {
      const [one, other, third] = await inodes(layout, roots, file);
      assertEquals(one, other, file);
      assertNotEquals(one, third);
    }
    await assertReads(twins, roots);
    assertEquals(await shareEqualData({ layout, references }), 0);
    const [gone] = roots.splice(0, 1);
    await releaseSnapshots(layout, references, [gone]);
    assertEquals(await isPresent(layout.snapshot(gone!.manifest.snapshot_id).directory), false);
    await assertReads(twins, roots);
    assertEquals((await Deno.stat(layout.snapshot(roots[0]!.manifest.snapshot_id).disk)).nlink, 1);
  });
});

Deno.test("the same content has the same name, whatever its holes; other content has another", async () => {
  await withTwins(async ({ layout, roots }) => {
    const names = await Promise.all(
      roots.map(({ manifest }) => readContentName(layout.snapshot(manifest.snapshot_id).diskHash)),
    );
    assertEquals(names[0], names[1]);
    assertNotEquals(names[0], names[2]);
    const { disk, diskHash, diskSums } = layout.snapshot(roots[0]!.manifest.snapshot_id);
    // Written anew without any hole.
    await Deno.writeFile(disk, await Deno.readFile(disk));
    for (const path of [diskHash, diskSums]) await Deno.remove(path);
    await sealData(layout, roots[0]!.manifest.snapshot_id, UNPACED);
    assertEquals(await readContentName(diskHash), names[0]);
  });
});

Deno.test("data that the medium has damaged since it was named takes no good data's place, and is found", async () => {
  for (const damaged of [0, 1]) {
    await withTwins(async (twins) => {
      const { layout, references, roots } = twins;
      const { memoryData } = layout.snapshot(roots[damaged]!.manifest.snapshot_id);
      const bytes = await Deno.readFile(memoryData);
      bytes[5000]! ^= 1;
      await Deno.writeFile(memoryData, bytes);
      await shareEqualData({ layout, references });
      const [one, other] = await inodes(layout, roots, "memoryData");
      assertNotEquals(one, other);
      await assertReads(twins, [roots[1 - damaged]!]);
      const verdicts = await verifyData(layout, roots[damaged]!.manifest.snapshot_id);
      assertEquals(verdicts.filter(({ verdict }) => verdict === "damaged").map(({ file }) => file), ["memory.data"]);
    });
  }
});

Deno.test("damage that keeps the checksum is found by the content's hash", async () => {
  await withTwins(async ({ layout, roots }) => {
    const { disk, diskSums } = layout.snapshot(roots[0]!.manifest.snapshot_id);
    const bytes = await Deno.readFile(disk);
    bytes[0]! ^= 1;
    await Deno.writeFile(disk, bytes);
    await Deno.remove(diskSums);
    const verdicts = await verifyData(layout, roots[0]!.manifest.snapshot_id);
    assertEquals(verdicts.find(({ file }) => file === "disk.raw")?.verdict, "damaged");
    // It gets no new name, and no checksums that would call it good.
    await sealData(layout, roots[0]!.manifest.snapshot_id, UNPACED);
    const again = await verifyData(layout, roots[0]!.manifest.snapshot_id);
    assertEquals(again.find(({ file }) => file === "disk.raw")?.verdict, "damaged");
  });
});

Deno.test("a snapshot that is released while its data is being shared leaves nothing", async () => {
  await withTwins(async ({ layout, references, roots }) => {
    const [gone] = roots.splice(1, 1);
    const ids = roots.map(({ manifest }) => manifest.snapshot_id);
    const onStep = (step: string) => {
      if (step !== "share.rename") return;
      const { directory } = layout.snapshot(gone!.manifest.snapshot_id);
      Deno.removeSync(directory, { recursive: true });
    };
    await shareEqualData({ layout, references, onStep });
    assertEquals([...Deno.readDirSync(layout.snapshots)].map(({ name }) => name).sort(), ids.sort());
    assertEquals([...Deno.readDirSync(layout.staging)], []);
  });
});
