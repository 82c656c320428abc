import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { checkHotWriter, startHotWriter, stopHotWriter } from "../hot_writer.ts";
import { type Scenario, timed } from "../lane.ts";
import { countOf, prepare, rewrite, stateOf } from "../workload.ts";

/** Who a guest is, and what it draws: each must differ between a sandbox and those made from it. */
const IDENTITIES = ["cat /etc/machine-id", "hostname", "cat /proc/sys/kernel/random/uuid"];

/** A checkpoint of a running sandbox, and sandboxes spawned from it: all go on by themselves, as somebody else. */
export const fork: Scenario = {
  name: "fork",
  async run(lane) {
    const source = await lane.create();
    const before = await prepare(lane, source);
    await startHotWriter(lane, source);
    const [checkpoint, checkpointMs] = await timed(() =>
      lane.client.createSnapshot({ sandboxId: source, name: "kvm-lane", keepSandbox: true })
    );
    const { snapshotId } = checkpoint.snapshot!;
    // The source never stops for more than the checkpoint, and what it writes now is its own.
    const after = await rewrite(lane, source);
    const children: string[] = [];
    const [, spawnMs] = await timed(async () => {
      for (let child = 0; child < 2; child++) children.push(await lane.create({ snapshotId }));
    });
    for (const child of children) {
      assertEquals(await stateOf(lane, child), before);
      assert(await countOf(lane, child) > 0);
    }
    for (const id of [source, ...children]) await checkHotWriter(lane, id);
    for (const id of [source, children[1]!]) await stopHotWriter(lane, id);
    for (const identity of IDENTITIES) {
      const answers = new Set<string>();
      for (const id of [source, ...children]) answers.add(await lane.exec(id, identity));
      assertEquals(answers.size, 3, identity);
    }

    const changed = await rewrite(lane, children[0]!);
    assertNotEquals(changed, before);
    assertEquals(await stateOf(lane, children[1]!), before);
    assertEquals(await stateOf(lane, source), after);
    const { snapshot } = await lane.client.pauseSandbox({ sandboxId: children[0]! });
    await lane.client.resumeSandbox({ sandboxId: children[0]! });
    assertEquals(await stateOf(lane, children[0]!), changed);
    const rounds = await checkHotWriter(lane, children[0]!);
    await lane.cleanUp();
    await lane.client.deleteSnapshot({ snapshotId });
    return {
      checkpoint_ms: checkpointMs,
      stopped_us: Number(checkpoint.stoppedUs),
      spawn_two_ms: spawnMs,
      child_pages_dirty: Number(snapshot!.pagesDirty),
      hot_writer_rounds: rounds,
    };
  },
};
