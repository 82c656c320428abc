import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import { newId } from "@torpor/ids";
import { eventually } from "@torpor/testing/hostagent";
import { isPresent, removeIfPresent } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import { KnownDamage } from "./damage.ts";
import { Pace } from "./pace.ts";
import { SnapshotReferences } from "./references.ts";
import { releaseUnreferenced } from "./release.ts";
import { type FoundSnapshot, isDamaged } from "./sweep.ts";
import { hold, SnapshotHistory } from "./testing/history.ts";
import { withLayout } from "./testing/write_snapshot.ts";
import { readVerificationState, writeVerificationState } from "./verification_state.ts";
import { Verifier } from "./verifier.ts";
import { verifyOwnData } from "./verify_data.ts";

interface Rig {
  layout: Layout;
  references: SnapshotReferences;
  /** Two kept snapshots, in the order of their ids, and a child of the first one. */
  first: FoundSnapshot;
  second: FoundSnapshot;
  child: FoundSnapshot;
}

async function withRig(work: (rig: Rig) => Promise<void>): Promise<void> {
  await withLayout(async (layout) => {
    for (const path of [layout.snapshots, layout.staging]) await Deno.mkdir(path, { recursive: true });
    const history = new SnapshotHistory(layout, 22);
    const commit = () => history.commit({ sandboxId: newId(), kind: "kept", memoryPages: 50, diskPages: 50 });
    const [first, second] = [await commit(), await commit()].toSorted((one, other) => idOf(one) < idOf(other) ? -1 : 1);
    const child = await history.commit({ sandboxId: newId(), memoryPages: 5, diskPages: 5 }, first);
    const references = new SnapshotReferences();
    const roots = { first: first!, second: second!, child };
    using _held = hold(references, Object.values(roots));
    await work({ layout, references, ...roots });
  });
}

const idOf = ({ manifest }: FoundSnapshot) => manifest.snapshot_id;

/** A verifier as an agent has it after its start. */
async function verifierOf({ layout, references }: Rig, bytesPerSecond = Infinity) {
  const state = await readVerificationState(layout);
  const damage = new KnownDamage(state.damaged);
  const verifier = new Verifier({ layout, references, damage, state, intervalMs: 0, bytesPerSecond });
  verifier.start();
  return verifier;
}

async function flipBit(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  bytes[bytes.length >> 1]! ^= 2;
  await Deno.writeFile(path, bytes);
}

async function filesBelow(directory: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (isDirectory) names.push(...await filesBelow(`${directory}/${name}`));
    else names.push(`${directory}/${name}`);
  }
  return names.toSorted();
}

Deno.test("a pass gives disks their checksums, finds every damaged file and tells whoever reads it, and removes nothing", async () => {
  await withRig(async (rig) => {
    const { layout, first, second, child } = rig;
    await using verifier = await verifierOf(rig);
    assertEquals(await verifier.verifyAll(), []);
    const files = await filesBelow(layout.snapshots);
    assertEquals(files.filter((name) => name.endsWith("/disk.sums")).length, 3);
    const marked = () => [first, second, child].map(isDamaged);
    assertEquals(marked(), [false, false, false]);
    const { memoryData } = layout.snapshot(idOf(first));
    await flipBit(memoryData);
    await flipBit(layout.snapshot(idOf(second)).disk);
    const bad = (await verifier.verifyAll()).map(({ snapshotId, file, verdict }) => [snapshotId, file, verdict]);
    assertEquals(bad, [[idOf(first), "memory.data", "damaged"], [idOf(second), "disk.raw", "damaged"]]);
    assertEquals(marked(), [true, true, true]);
    assertEquals(child.damage?.map(({ snapshotId }) => snapshotId), [idOf(first)]);
    await flipBit(memoryData);
    await verifier.verifyAll();
    assertEquals(marked(), [false, true, false]);
    assertEquals(await filesBelow(layout.snapshots), files);
  });
});

Deno.test("data that a table reads and that is not there is missing, also when its whole directory has gone", async () => {
  await withRig(async (rig) => {
    const { layout, first, child } = rig;
    await using verifier = await verifierOf(rig);
    await Deno.remove(layout.snapshot(idOf(first)).directory, { recursive: true });
    const bad = (await verifier.verifyAll()).map(({ snapshotId, file, verdict }) => [snapshotId, file, verdict]);
    assertEquals(bad, [[idOf(first), "memory.data", "missing"]]);
    assert(isDamaged(child));
  });
});

Deno.test("what was found is known to the next agent, and a pass that was cut short goes on where it was", async () => {
  await withRig(async (rig) => {
    const { layout, first, second } = rig;
    await flipBit(layout.snapshot(idOf(first)).memoryData);
    {
      await using verifier = await verifierOf(rig);
      await verifier.verifyAll();
    }
    first.damage = undefined;
    await using restarted = await verifierOf(rig);
    assert(isDamaged(first));
    const { damaged, beganAtMs } = await readVerificationState(layout);
    assertEquals([damaged.length, beganAtMs > 0], [1, true]);
    await writeVerificationState(layout, { beganAtMs, cursor: idOf(first), damaged }, true);
    await flipBit(layout.snapshot(idOf(second)).memoryData);
    await restarted[Symbol.asyncDispose]();
    await using next = await verifierOf(rig);
    assertEquals((await next.verifyAll()).map(({ snapshotId }) => snapshotId).filter((id) => id === idOf(first)), []);
    assertEquals((await readVerificationState(layout)).cursor, null);
    assertEquals((await next.verifyAll()).length, 2);
  });
});

Deno.test("in the background new disks get their checksums after a change, and pass follows pass", async () => {
  await withRig(async ({ layout, references, first, second }) => {
    const state = await readVerificationState(layout);
    const damage = new KnownDamage();
    const delays = { sealMs: 1, passMs: 1 };
    const rest = { state, damage, intervalMs: 20, bytesPerSecond: Infinity };
    await flipBit(layout.snapshot(idOf(first)).memoryData);
    const began = Date.now();
    {
      await using verifier = new Verifier({ layout, references, ...rest, intervalMs: 3_600_000, delays });
      verifier.start();
      const sealed = () => isPresent(layout.snapshot(idOf(second)).diskSums);
      await eventually(async () => await sealed() || undefined, "checksums of a disk");
      await eventually(() => Promise.resolve(isDamaged(first) || undefined), "the first pass");
    }
    await using verifier = new Verifier({ layout, references, ...rest, delays });
    verifier.start();
    const passes = new Set<number>();
    await eventually(async () => {
      passes.add((await readVerificationState(layout)).beganAtMs);
      return passes.size > 3 || undefined;
    }, "some passes");
    assert([...passes].every((each) => each === 0 || each >= began));
  });
});

Deno.test("an unreadable state counts as none", async () => {
  await withRig(async (rig) => {
    await Deno.writeTextFile(rig.layout.verification, "{");
    await using verifier = await verifierOf(rig);
    assertEquals(await verifier.verifyAll(), []);
  });
});

Deno.test("a pass ends at once when its agent does, and keeps to its rate", async () => {
  await withRig(async (rig) => {
    // A MiB is an hour's work.
    const verifier = await verifierOf(rig, 300);
    const pass = assertRejects(() => verifier.verifyAll(), DOMException);
    await verifier[Symbol.asyncDispose]();
    await pass;
    assertEquals((await readVerificationState(rig.layout)).damaged, []);
  });
  const pace = new Pace(1_000_000);
  const began = performance.now();
  for (let times = 0; times < 4; times++) await pace.take(10_000);
  assertGreater(performance.now() - began, 29);
});

Deno.test("what is released while it is read is no damage", async () => {
  await withRig(async ({ layout, references, second }) => {
    const needed = references.current();
    const whole = new Set([...needed.whole].filter((id) => id !== idOf(second)));
    let released = false;
    const take = async () => {
      if (released) return;
      released = true;
      await releaseUnreferenced(layout, [idOf(second)], { ...needed, whole });
    };
    assertEquals(await verifyOwnData(layout, idOf(second), { pace: { take } }), []);
    assert(released);
    await removeIfPresent(layout.snapshot(idOf(second)).directory);
  });
});
