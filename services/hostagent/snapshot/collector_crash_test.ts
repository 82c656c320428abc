import { Buffer } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { namesIn } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { Collector } from "./collector.ts";
import { SnapshotReferences } from "./references.ts";
import { type FoundSnapshot, sweepSnapshots } from "./sweep.ts";
import { readSnapshot, SnapshotHistory } from "./testing/history.ts";
import { withLayout } from "./testing/write_snapshot.ts";

const STEPS: [step: string, passes: number][] = [
  ["compact.copy", 0],
  ["compact.commit", 0],
  ["rewrite.write", 0],
  ["rewrite.exchange", 0],
  ["rewrite.sync", 0],
  ["rewrite.discard", 0],
  // The second reader of the same victims, when the first reads the new file already.
  ["rewrite.exchange", 1],
  ["rewrite.discard", 1],
  ["difference.rewrite", 0],
  ["share.rename", 0],
  ["share.sync", 0],
  ["share.rename", 1],
];

/** Two forks of one sandbox and a kept snapshot: compaction has several readers, and a disk can become a difference. */
async function makeHistory(layout: Layout): Promise<{ history: SnapshotHistory; survivors: FoundSnapshot[] }> {
  for (const path of [layout.snapshots, layout.staging]) await Deno.mkdir(path, { recursive: true });
  const history = new SnapshotHistory(layout, 20);
  const sandboxId = newId();
  let newest = await history.commit({ sandboxId, memoryPages: 600, diskPages: 1500 });
  for (let generation = 2; generation <= 5; generation++) {
    newest = await history.commit({ sandboxId, memoryPages: 300, diskPages: 10 }, newest);
  }
  const kept = await history.commit({ sandboxId, kind: "kept", memoryPages: 300, diskPages: 10 }, newest);
  const fork = await history.commit({ sandboxId: newId(), memoryPages: 300, diskPages: 20 }, kept);
  // Somebody else whose data is the same, by chance.
  const twin = new SnapshotHistory(layout, 21);
  const other = new SnapshotHistory(layout, 21);
  const pair = await Promise.all(
    [twin, other].map((one) => one.commit({ sandboxId: newId(), memoryPages: 300, diskPages: 300 })),
  );
  for (const one of [twin, other]) for (const [id, bytes] of one.expected) history.expected.set(id, bytes);
  return { history, survivors: [newest, kept, fork, ...pair] };
}

async function assertSurvivors(layout: Layout, history: SnapshotHistory, survivors: FoundSnapshot[]): Promise<void> {
  for (const { manifest: { snapshot_id } } of survivors) {
    const read = await readSnapshot(layout, snapshot_id);
    const expected = history.expected.get(snapshot_id)!;
    assert(Buffer.compare(read.memory, expected.memory) === 0, `memory of ${snapshot_id}`);
    assert(Buffer.compare(read.disk, expected.disk) === 0, `disk of ${snapshot_id}`);
  }
}

for (const [step, passes] of STEPS) {
  Deno.test(`a collection that is killed at ${step}, passed ${passes} times, leaves every byte`, async () => {
    await withLayout(async (layout) => {
      const { history, survivors } = await makeHistory(layout);
      const program = new URL("./testing/collect_until_killed.ts", import.meta.url).pathname;
      const { signal } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", "--no-check", program, layout.home, step, String(passes)],
        stdout: "null",
      }).output();
      assertEquals(signal, "SIGKILL");
      await assertSurvivors(layout, history, survivors);
      // The next agent cleans up, and does what the first could not.
      const references = new SnapshotReferences();
      const { newest, kept } = await sweepSnapshots(layout);
      using _held = references.watch(() => [...newest.values(), ...kept.values()]);
      await assertSurvivors(layout, history, survivors);
      const limits = { liveShare: 0.6, minSavedBytes: 4096, maxSources: 6 };
      await using collector = new Collector({ layout, references, intervalMs: 0, limits });
      await collector.collect();
      await assertSurvivors(layout, history, survivors);
      assertEquals([await collector.collect(true), await namesIn(layout.staging)], [[], []]);
    });
  });
}

Deno.test("a collection that fails at any step leaves every byte, and nothing behind", async () => {
  await withLayout(async (layout) => {
    const { history, survivors } = await makeHistory(layout);
    const references = new SnapshotReferences();
    const { newest, kept } = await sweepSnapshots(layout);
    using _held = references.watch(() => [...newest.values(), ...kept.values()]);
    const limits = { liveShare: 0.6, minSavedBytes: 4096, maxSources: 6 };
    for (const [fatal] of STEPS) {
      const fail = (step: string) => {
        if (step === fatal) throw new Error(step);
      };
      const options = { layout, references, intervalMs: 0, limits, onStep: fail };
      await using collector = new Collector(options);
      await collector.collect().catch((error) => assertEquals(error.message, fatal));
      assertEquals(await namesIn(layout.staging), []);
      await assertSurvivors(layout, history, survivors);
    }
  });
});
