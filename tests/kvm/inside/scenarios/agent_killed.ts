import { assertEquals, assertGreater } from "@std/assert";
import { type Scenario, timed } from "../lane.ts";
import { countOf, prepare, rewrite, stateOf } from "../workload.ts";

/** A host agent that is killed leaves its VMs and pagers running; the next one takes them over and can pause them. */
export const agentKilled: Scenario = {
  name: "agent-killed",
  async run(lane) {
    const id = await lane.create();
    await prepare(lane, id);
    await lane.client.pauseSandbox({ sandboxId: id });
    await lane.client.resumeSandbox({ sandboxId: id });
    const state = await rewrite(lane, id);
    const counted = await countOf(lane, id);

    await lane.agent.end("SIGKILL");
    const [, restartMs] = await timed(() => lane.agent.start());
    const { sandbox } = await lane.client.getSandbox({ sandboxId: id });
    assertEquals([sandbox?.status, sandbox?.reason], ["running", ""]);
    assertEquals(await stateOf(lane, id), state);
    assertGreater(await countOf(lane, id), counted);

    const { snapshot } = await lane.client.pauseSandbox({ sandboxId: id });
    assertEquals(snapshot?.generation, 2);
    await lane.client.resumeSandbox({ sandboxId: id });
    assertEquals(await stateOf(lane, id), state);
    return { agent_restart_ms: restartMs, pages_dirty: Number(snapshot!.pagesDirty) };
  },
};
