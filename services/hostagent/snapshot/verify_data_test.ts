import { assertEquals, assertGreater, assertRejects } from "@std/assert";
import { SUM_CHUNK_BYTES } from "@torpor/snapshot";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { namesIn } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { Collector } from "./collector.ts";
import { verifySnapshot } from "./committed.ts";
import { KnownDamage } from "./damage.ts";
import { UNPACED } from "./pace.ts";
import { SnapshotReferences } from "./references.ts";
import { sealDisk } from "./seal_disk.ts";
import type { FoundSnapshot } from "./sweep.ts";
import { DISK_MIB, hold, SnapshotHistory } from "./testing/history.ts";
import { withLayout } from "./testing/write_snapshot.ts";
import { verifyData } from "./verify_data.ts";

/** A kept snapshot with a whole disk, and one of a sandbox that reads its memory and its disk. */
async function withPair(
  work: (layout: Layout, base: FoundSnapshot, child: FoundSnapshot) => Promise<void>,
): Promise<void> {
  await withLayout(async (layout) => {
    for (const path of [layout.snapshots, layout.staging]) await Deno.mkdir(path, { recursive: true });
    const history = new SnapshotHistory(layout, 21);
    const base = await history.commit({ sandboxId: newId(), kind: "kept", memoryPages: 100, diskPages: 800 });
    const child = await history.commit({ sandboxId: newId(), memoryPages: 20, diskPages: 20 }, base);
    const references = new SnapshotReferences();
    using _held = hold(references, [base, child]);
    await using collector = new Collector({ layout, references, intervalMs: 0 });
    // The child's disk becomes a difference.
    await collector.collect();
    for (const { manifest } of [base, child]) await sealDisk(layout, manifest.snapshot_id, UNPACED);
    await work(layout, base, child);
  });
}

async function verdicts(layout: Layout, { manifest }: FoundSnapshot): Promise<Record<string, string>> {
  const verified = await verifyData(layout, manifest.snapshot_id);
  const own = (id: string) => id === manifest.snapshot_id ? "" : "base ";
  return Object.fromEntries(verified.map(({ snapshotId, file, verdict }) => [`${own(snapshotId)}${file}`, verdict]));
}

const GOOD = {
  "manifest.json": "good",
  "state": "good",
  "memory.header": "good",
  "memory.data": "good",
  "disk.header": "good",
  "disk.data": "good",
  "base memory.data": "good",
  "base disk.raw": "good",
};

async function withFlippedBit(path: string, work: () => Promise<void>, at?: number): Promise<void> {
  const good = await Deno.readFile(path);
  const bad = good.slice();
  bad[at ?? bad.length >> 1]! ^= 0x10;
  await Deno.writeFile(path, bad);
  await work();
  await Deno.writeFile(path, good);
}

Deno.test("a verification names the file in which a bit was flipped, whose ever it is, and any that is missing", async () => {
  await withPair(async (layout, base, child) => {
    const [own, other] = [base, child].map(({ manifest }) => layout.snapshot(manifest.snapshot_id)).reverse();
    assertEquals(await verdicts(layout, child), GOOD);
    const paths = {
      "state": own!.state,
      "memory.data": own!.memoryData,
      "disk.data": own!.diskData,
      "base memory.data": other!.memoryData,
      "base disk.raw": other!.disk,
    };
    for (const [file, path] of Object.entries(paths)) {
      await withFlippedBit(path, async () => {
        assertEquals(await verdicts(layout, child), { ...GOOD, [file]: "damaged" });
      });
      await Deno.rename(path, `${path}.away`);
      // A base without its whole disk would be one that has stored a difference.
      const missing = file === "base disk.raw" ? "base disk.data" : file;
      assertEquals((await verdicts(layout, child))[missing], "missing");
      await Deno.rename(`${path}.away`, path);
    }
    // Nobody knows what such a table reads.
    await withFlippedBit(own!.memoryHeader, async () => {
      const { "base memory.data": _, ...rest } = GOOD;
      assertEquals(await verdicts(layout, child), { ...rest, "memory.header": "damaged" });
    });
    assertEquals(await verdicts(layout, child), GOOD);
  });
});

Deno.test("without its manifest a snapshot's tables are checked by themselves, and its data counts as unchecked", async () => {
  await withPair(async (layout, _base, child) => {
    await withFlippedBit(layout.snapshot(child.manifest.snapshot_id).manifest, async () => {
      assertEquals(await verdicts(layout, child), {
        ...GOOD,
        "manifest.json": "damaged",
        "state": "unchecked",
        "memory.data": "unchecked",
        "disk.data": "unchecked",
      });
    });
  });
});

Deno.test("a disk's checksums cover every byte of it, also holes, and damaged ones are made anew", async () => {
  await withPair(async (layout, base) => {
    const id = base.manifest.snapshot_id;
    const { disk, diskSums, diskHash } = layout.snapshot(id);
    const verdict = async () => (await verdicts(layout, base))["disk.raw"];
    const last = DISK_MIB * SUM_CHUNK_BYTES - 1;
    for (const at of [0, SUM_CHUNK_BYTES - 1, SUM_CHUNK_BYTES, last]) {
      await withFlippedBit(disk, async () => assertEquals(await verdict(), "damaged"), at);
    }
    await Deno.truncate(disk, last);
    assertEquals(await verdict(), "damaged");
    await Deno.truncate(disk, last + 1);
    assertEquals(await sealDisk(layout, id, UNPACED), false);
    await withFlippedBit(diskSums, async () => {
      // Its content's hash tells, too.
      assertEquals(await verdict(), "good");
      await Deno.remove(diskHash);
      assertEquals(await verdict(), "unchecked");
      assertEquals(await sealDisk(layout, id, UNPACED), true);
    });
    assertEquals(await verdict(), "good");
    assertEquals(await namesIn(layout.staging), []);
  });
});

Deno.test("a hole is not read for a disk's checksums: it takes the time of what is stored", async () => {
  await withPair(async (layout, base) => {
    const { disk, diskSums } = layout.snapshot(base.manifest.snapshot_id);
    await Deno.remove(diskSums);
    await Deno.truncate(disk, 2 ** 40);
    let read = 0;
    const pace = { take: (bytes: number) => Promise.resolve(void (read += bytes)) };
    await sealDisk(layout, base.manifest.snapshot_id, { pace });
    assertGreater(read, 0);
    assertEquals(read <= DISK_MIB * SUM_CHUNK_BYTES, true);
  });
});

Deno.test("data that is known to be damaged refuses a resume, until it is found good again", async () => {
  await withPair(async (layout, base, child) => {
    const damage = new KnownDamage();
    const path = layout.snapshot(base.manifest.snapshot_id).disk;
    const verified = await verifySnapshot(layout, child.manifest.snapshot_id);
    await damage.requireSoundData(layout, verified);
    await withFlippedBit(path, async () => {
      for (const file of await verifyData(layout, child.manifest.snapshot_id)) damage.note(file);
      const refusal = await assertRejects(() => damage.requireSoundData(layout, verified), TorporError, "disk.raw");
      assertEquals(refusal.code, "snapshot_corrupt");
    });
    assertEquals(damage.of(child).map(({ file }) => file), ["disk.raw"]);
    for (const file of await verifyData(layout, child.manifest.snapshot_id)) damage.note(file);
    await damage.requireSoundData(layout, verified);
  });
});
