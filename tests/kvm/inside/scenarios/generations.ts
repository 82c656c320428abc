import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import type { Facts } from "../../machine/messages.ts";
import { type Scenario, timed } from "../lane.ts";
import { countOf, prepare, rewrite, stateOf } from "../workload.ts";

const GENERATIONS = 3;

/** Pause, lazy resume, write, and again: the bytes stay, only what changed is stored, only what is touched is loaded. */
export const generations: Scenario = {
  name: "generations",
  async run(lane) {
    const id = await lane.create();
    let state = await prepare(lane, id);
    let counted = await countOf(lane, id);
    let firstBytes = 0n;
    const facts: Facts = {};
    for (let generation = 1; generation <= GENERATIONS; generation++) {
      const [{ snapshot }, pauseMs] = await timed(() => lane.client.pauseSandbox({ sandboxId: id }));
      assertEquals(snapshot?.generation, generation);
      if (generation === 1) firstBytes = snapshot!.memoryBytes;
      else assertLess(snapshot!.memoryBytes, firstBytes / 2n);

      const [, resumeMs] = await timed(() => lane.client.resumeSandbox({ sandboxId: id }));
      const stats = await lane.client.getMemoryStats({ sandboxId: id });
      assert(stats.lazy);
      assertGreater(stats.faults, 0n);
      assertLess(stats.dataPagesServed, snapshot!.pagesData);

      assertEquals(await stateOf(lane, id), state, `generation ${generation} has other bytes`);
      const later = await countOf(lane, id);
      assertGreater(later, counted);
      counted = later;
      state = await rewrite(lane, id);
      facts[`generation_${generation}`] = [
        `pause ${pauseMs} ms, ${snapshot!.pagesDirty} dirty of ${snapshot!.pagesData} pages`,
        `resume ${resumeMs} ms, ${stats.faults} faults, ${stats.dataPagesServed} pages served`,
      ].join("; ");
    }
    return facts;
  },
};
