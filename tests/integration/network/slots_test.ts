import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  eventually,
  type HostAgentProcess,
  makeTestHome,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
} from "@torpor/testing/hostagent";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { type Ground, makeGround, PUBLIC } from "../../security/ground/mod.ts";
import { agentNames } from "../../../services/hostagent/network/slots/names.ts";
import { runTool } from "../../../services/cli/tool/run_tool.ts";

const SETTINGS = { TORPOR_NETWORK: "on", TORPOR_DNS: PUBLIC.resolver, TORPOR_NETWORK_POOL: "1" };
const FETCH = `curl -sS -m 20 -o /dev/null -w '%{http_code}' http://${PUBLIC.web}/`;

async function startAgent(
  ground: Ground,
  home: string,
  env: Record<string, string> = {},
  { spareVmm = false, wrap = [] as string[] } = {},
) {
  return await startHostAgentProcess(home, { wrap: ground.agent.inside(wrap), env: { ...SETTINGS, ...env }, spareVmm });
}

/** Namespaces of the slots of an agent: other tests may have agents, too. */
async function slotNamespaces(home: string): Promise<string[]> {
  const { namespacePrefix } = await agentNames(home);
  const names = (await runTool(["ip", "netns", "list"])).split("\n").map((line) => line.split(" ")[0]!);
  return names.filter((name) => name.startsWith(namespacePrefix)).sort();
}

async function slotDevices(ground: Ground): Promise<string[]> {
  const text = await ground.agent.run("ip", "-o", "link", "show", "type", "veth");
  return [...text.matchAll(/: (tv[^@:]+)/g)].map(([, name]) => name!).sort();
}

/** Its own namespace is where the guest's network device is. */
async function slotOf(home: string, sandboxId: string): Promise<{ index: number; slot_address: string } | null> {
  const record = JSON.parse(await Deno.readTextFile(`${home}/sandboxes/${sandboxId}/running.json`));
  return record.vm.network;
}

async function terminate(agent: HostAgentProcess): Promise<void> {
  await agent.client.terminate({});
  await agent.ended;
}

Deno.test("a guest has the internet after its creation, a resume, a fork and a restart of its agent", async (t) => {
  await using ground = await makeGround();
  const home = await makeTestHome();
  try {
    let id = "";
    {
      await using agent = await startAgent(ground, home, {}, { spareVmm: true });
      const { create, run } = sandboxHelpers(agent.client);
      await t.step("created", async () => {
        id = await create();
        assertEquals(await run(id, "cat /etc/resolv.conf"), "nameserver 10.249.0.1");
        assertEquals(await run(id, "cat /sys/class/net/eth0/carrier"), "1");
        assertEquals(await run(id, FETCH), "200");
        const slot = await slotOf(home, id);
        assert(slot && (await ground.arrivals()).length > 0);
      });
      await t.step("resumed, in the VMM that was started ahead", async () => {
        for (let round = 0; round < 2; round++) {
          await agent.client.pauseSandbox({ sandboxId: id });
          await eventually(async () => (await processesWith(`${home}/spares/`))[0], "a spare VMM");
          await agent.client.resumeSandbox({ sandboxId: id });
          assertEquals(await run(id, FETCH), "200");
        }
      });
      await t.step("forked: the same address inside, another outside", async () => {
        const { snapshot } = await agent.client.createSnapshot({ sandboxId: id, keepSandbox: true });
        const sandboxId = newId();
        await agent.client.createSandbox({ sandboxId, snapshotId: snapshot!.snapshotId });
        assertEquals(await Promise.all([id, sandboxId].map((one) => run(one, FETCH))), ["200", "200"]);
        assert((await slotOf(home, id))!.slot_address !== (await slotOf(home, sandboxId))!.slot_address);
        await agent.client.destroySandbox({ sandboxId });
      });
      await agent.client.pauseSandbox({ sandboxId: id });
      await agent.client.resumeSandbox({ sandboxId: id });
      await agent.end("SIGKILL");
    }
    {
      await using agent = await startAgent(ground, home);
      const { run } = sandboxHelpers(agent.client);
      await t.step("adopted: its slot is kept, every other is swept away", async () => {
        const slot = await slotOf(home, id);
        assertEquals(await run(id, FETCH), "200");
        // One that is used and one that is prepared.
        await eventually(async () => (await slotNamespaces(home)).length === 2 || undefined, "the sweep");
        const devices = await slotDevices(ground);
        assertEquals(devices.length, 2);
        assert(devices.some((name) => name.endsWith(`-${slot!.index}`)));
      });
      await t.step("an agent that ends leaves nothing", async () => {
        await terminate(agent);
        assertEquals(await slotNamespaces(home), []);
        assertEquals(await slotDevices(ground), []);
        assert(!(await ground.agent.run("nft", "list", "tables")).includes("torpor"));
      });
    }
  } finally {
    for (const pid of await processesWith(home)) Deno.kill(pid, "SIGKILL");
    await Deno.remove(home, { recursive: true });
  }
});

Deno.test("a snapshot fits hosts with and without network; where it is off, a guest is told at once", async () => {
  await using ground = await makeGround();
  const home = await makeTestHome();
  const failure = `curl -sS -m 20 http://${PUBLIC.web}/ 2>&1; echo $?`;
  try {
    let id = "";
    {
      await using agent = await startAgent(ground, home);
      const { create, run } = sandboxHelpers(agent.client);
      id = await create();
      assertEquals(await run(id, FETCH), "200");
      await agent.client.pauseSandbox({ sandboxId: id });
      await agent.end("SIGTERM");
    }
    {
      await using agent = await startAgent(ground, home, { TORPOR_NETWORK: "off" });
      const { run } = sandboxHelpers(agent.client);
      await agent.client.resumeSandbox({ sandboxId: id });
      assertEquals(await run(id, "cat /sys/class/net/eth0/carrier"), "0");
      // 7: could not connect, and not 28, which is the time limit.
      assertEquals((await run(id, failure)).split("\n").at(-1), "7");
      assertEquals(await slotDevices(ground), []);
      await agent.client.pauseSandbox({ sandboxId: id });
      await agent.end("SIGTERM");
    }
    {
      const unable = ["setpriv", "--bounding-set=-net_admin"];
      await using agent = await startAgent(ground, home, { TORPOR_NETWORK: "off" }, { wrap: unable });
      const error = await assertRejects(() => agent.client.resumeSandbox({ sandboxId: id }), TorporError);
      // Without a tap device its device state does not fit: QEMU says so and ends, or just ends.
      assert(["resume_failed", "vm_gone"].includes(error.code), error.code);
      await agent.end("SIGTERM");
    }
    {
      await using agent = await startAgent(ground, home);
      await agent.client.resumeSandbox({ sandboxId: id });
      assertEquals(await sandboxHelpers(agent.client).run(id, FETCH), "200");
      await terminate(agent);
    }
  } finally {
    for (const pid of await processesWith(home)) Deno.kill(pid, "SIGKILL");
    await Deno.remove(home, { recursive: true });
  }
});
