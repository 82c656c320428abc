import { assertEquals, assertLess } from "@std/assert";
import { newId } from "@torpor/ids";
import { namesIn } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { StorageMeter } from "./storage_meter.ts";
import { measureStored, type StoredBytes } from "./stored_bytes.ts";
import { SnapshotHistory } from "./testing/history.ts";
import { withLayout } from "./testing/write_snapshot.ts";

async function onDisk(layout: Layout): Promise<number> {
  const inodes = new Map<number, number>();
  for (const id of await namesIn(layout.snapshots)) {
    const { directory } = layout.snapshot(id);
    for (const name of await namesIn(directory)) {
      if (name === "manifest.json") continue;
      const { ino, blocks } = await Deno.lstat(`${directory}/${name}`);
      inodes.set(ino!, (blocks ?? 0) * 512);
    }
  }
  return inodes.values().reduce((sum, bytes) => sum + bytes, 0);
}

const total = (all: StoredBytes[]) => all.reduce((sum, { unique, shared }) => sum + unique + shared, 0);

Deno.test("what several need is divided among them; the sums are what the disk holds", async () => {
  await withLayout(async (layout) => {
    await Deno.mkdir(layout.snapshots, { recursive: true });
    const history = new SnapshotHistory(layout, 3);
    const pages = { memoryPages: 100, diskPages: 100 };
    const kept = await history.commit({ sandboxId: newId(), kind: "kept", ...pages });
    const forks = [];
    for (let fork = 0; fork < 2; fork++) forks.push(await history.commit({ sandboxId: newId(), ...pages }, kept));
    const alone = await history.commit({ sandboxId: newId(), ...pages });
    const storers = [kept, ...forks, alone].map((snapshot) => ({ snapshots: [snapshot], files: [] as string[] }));
    const stored = await measureStored(layout, storers);
    const memory = layout.snapshot(kept.manifest.snapshot_id).memoryData;
    const third = Math.floor(((await Deno.lstat(memory)).blocks ?? 0) * 512 / 3);
    assertEquals(stored.map(({ shared }) => shared), [third, third, third, 0]);
    assertLess(Math.abs(total(stored) - await onDisk(layout)), 3);

    // Second names are not stored twice; what is not there counts nothing.
    const disk = layout.snapshot(alone.manifest.snapshot_id).disk;
    await Deno.remove(layout.snapshot(forks[0]!.manifest.snapshot_id).disk);
    await Deno.link(disk, layout.snapshot(forks[0]!.manifest.snapshot_id).disk);
    storers[0]!.files = [disk, `${disk}.gone`];
    const linked = await measureStored(layout, storers);
    assertLess(Math.abs(total(linked) - await onDisk(layout)), 6);
    assertEquals(linked[3]!.shared, Math.floor(((await Deno.lstat(disk)).blocks ?? 0) * 512 / 3));
    // Without the others all of it is its own.
    assertEquals((await measureStored(layout, [storers[1]!])).map(({ shared }) => shared), [0]);
  });
});

Deno.test("a meter tells everybody, and measures no more once it is disposed", async () => {
  await withLayout(async (layout) => {
    const told = Promise.withResolvers<StoredBytes>();
    {
      await using meter = new StorageMeter(layout, () => [{ snapshots: [], files: [], take: told.resolve }]);
      meter.soon();
      await meter.measure();
      meter.start();
    }
    assertEquals(await told.promise, { unique: 0, shared: 0 });
  });
});
