import { assert, assertEquals, assertRejects } from "@std/assert";
import { eventually, type HostAgentProcess, makeTestHome, startHostAgentProcess } from "@torpor/testing/hostagent";
import { agentNames } from "../../../services/hostagent/network/slots/names.ts";
import { type Ground, makeGround } from "../../security/ground/mod.ts";

async function startAgent(ground: Ground, home: string, env: Record<string, string>, wrap: string[] = []) {
  return await startHostAgentProcess(home, { wrap: ground.agent.inside(wrap), env });
}

async function withGround(work: (ground: Ground, home: string) => Promise<void>): Promise<void> {
  await using ground = await makeGround();
  const home = await makeTestHome();
  try {
    await work(ground, home);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

/** What there is of slots in the machine and in the agent's namespace, of this and other agents. */
async function slotParts(ground: Ground): Promise<string[]> {
  const namespaces = [...Deno.readDirSync("/run/netns")].map(({ name }) => name);
  const links = await ground.agent.run("ip", "-o", "link", "show");
  const devices = [...links.matchAll(/^\d+: (tv[^@:]+)/gm)].map(([, name]) => name!);
  return [...namespaces, ...devices].sort();
}

async function partsOf(ground: Ground, home: string): Promise<string[]> {
  const { agentId } = await agentNames(home);
  return (await slotParts(ground)).filter((name) => name.includes(agentId));
}

async function terminate(agent: HostAgentProcess): Promise<void> {
  await agent.client.terminate({});
  await agent.ended;
}

Deno.test("what a killed agent has left of slots is swept away, whatever is left; another agent's stays", async () => {
  await withGround(async (ground, home) => {
    const { agentId, namespacePrefix } = await agentNames(home);
    const other = ["torpor-ffffff-3", "tvffffff-3"];
    await ground.agent.ip([
      `netns add ${namespacePrefix}5`,
      `link add tv${agentId}-5 type veth peer name up0 netns ${namespacePrefix}5`,
      `netns add ${namespacePrefix}6`,
      `link add tv${agentId}-7 type veth peer name other7`,
      `netns add ${other[0]}`,
      `link add ${other[1]} type veth peer name up0 netns ${other[0]}`,
    ]);
    // Killed between making the file and mounting the namespace there.
    await Deno.writeTextFile(`/run/netns/${namespacePrefix}8`, "");
    try {
      await using agent = await startAgent(ground, home, { TORPOR_NETWORK: "on", TORPOR_NETWORK_POOL: "1" });
      const wanted = [`tv${agentId}-0`, `${namespacePrefix}0`].sort();
      await eventually(
        async () => (await partsOf(ground, home)).join() === wanted.join() || undefined,
        "a slot that is prepared and nothing else",
      );
      await terminate(agent);
      assertEquals(await partsOf(ground, home), []);
      assertEquals((await slotParts(ground)).filter((name) => other.includes(name)), other);
    } finally {
      await ground.agent.ip([`link delete ${other[1]}`, `netns delete ${other[0]}`]);
    }
  });
});

Deno.test("an agent that is killed while it prepares slots leaves none that its successor does not remove", async () => {
  await withGround(async (ground, home) => {
    for (let round = 0; round < 3; round++) {
      await using agent = await startAgent(ground, home, { TORPOR_NETWORK: "on", TORPOR_NETWORK_POOL: "16" });
      await eventually(async () => (await partsOf(ground, home)).length >= 4 + 6 * round || undefined, "some slots");
      await agent.end("SIGKILL");
    }
    assert((await partsOf(ground, home)).length > 0, "there is something to sweep");
    await using agent = await startAgent(ground, home, { TORPOR_NETWORK: "off" });
    assertEquals(await partsOf(ground, home), []);
    await terminate(agent);
  });
});

Deno.test("without the right to make slots an agent goes on without network, unless it is told that it must", async () => {
  await withGround(async (ground, home) => {
    const wrap = ["setpriv", "--bounding-set=-net_admin"];
    {
      await using agent = await startAgent(ground, home, { TORPOR_NETWORK: "" }, wrap);
      assertEquals(await partsOf(ground, home), []);
      await terminate(agent);
    }
    await assertRejects(() => startAgent(ground, home, { TORPOR_NETWORK: "on" }, wrap), Error, "ended with");
    assertEquals(await partsOf(ground, home), []);
    await using allowed = await startAgent(ground, home, { TORPOR_NETWORK: "" });
    assert((await partsOf(ground, home)).length > 0, "with it, slots are made");
    await terminate(allowed);
  });
});

Deno.test("a range that something else on the host uses is refused", async () => {
  await withGround(async (ground, home) => {
    await ground.agent.ip(["link add lan0 type veth peer name lan1", "address add 10.250.7.1/24 dev lan0"]);
    const on = { TORPOR_NETWORK: "on" };
    await assertRejects(() => startAgent(ground, home, on), Error, "ended with");
    await using agent = await startAgent(ground, home, { ...on, TORPOR_NETWORK_CIDR: "10.251.0.0/20" });
    await terminate(agent);
  });
});
