import { assert, assertEquals } from "@std/assert";
import {
  eventually,
  makeTestHome,
  openTestClient,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
  startTestHostAgent,
} from "@torpor/testing/hostagent";

async function spareProcesses(home: string): Promise<number[]> {
  return await processesWith(`${home}/spares/`);
}

Deno.test("a resume takes the VMM that was started at the pause, and nothing of it stays", async () => {
  const taken: string[] = [];
  await using host = await startTestHostAgent({
    spareVmm: true,
    overrides: { onStep: (step) => void taken.push(step) },
  });
  const { home, spares } = host.layout;
  const id = await host.create();
  await host.run(
    id,
    "head -c 8M /dev/urandom > /dev/shm/data; sha256sum < /dev/shm/data > /dev/shm/sum; echo a > /root/f",
  );
  assertEquals(await spareProcesses(home), []);
  for (const round of [1, 2]) {
    await host.client.pauseSandbox({ sandboxId: id });
    const waiting = await eventually(async () => (await spareProcesses(home))[0], "a spare VMM");
    taken.length = 0;
    await host.client.resumeSandbox({ sandboxId: id });
    assert(taken.includes("resume.take_spare") && !taken.includes("resume.spawn_vmm"), taken.join(" "));
    assertEquals(await spareProcesses(home), [waiting]);
    assertEquals([...Deno.readDirSync(spares)], []);
    const check =
      `sha256sum < /dev/shm/data | cmp - /dev/shm/sum && cat /root/f && echo ${round} > /root/g && cat /root/g`;
    assertEquals(await host.run(id, check), `a\n${round}`);
  }
  await host.client.destroySandbox({ sandboxId: id });
  assertEquals(await spareProcesses(home), []);
});

Deno.test("a spare VMM that died, or has another shape, is replaced by one of the resume's own", async () => {
  await using host = await startTestHostAgent({ spareVmm: true });
  const { home } = host.layout;
  const [small, large] = [await host.create({ memoryMb: 192 }), await host.create({ memoryMb: 256 })];
  await host.client.pauseSandbox({ sandboxId: small });
  const first = await eventually(async () => (await spareProcesses(home))[0], "a spare VMM");
  await host.client.pauseSandbox({ sandboxId: large });
  const second = await eventually(
    async () => (await spareProcesses(home)).find((pid) => pid !== first),
    "a spare VMM of the other shape",
  );
  await host.client.resumeSandbox({ sandboxId: small });
  assertEquals(await host.run(small, "echo on"), "on");
  Deno.kill(second, "SIGKILL");
  await eventually(async () => (await spareProcesses(home)).length === 0 || undefined, "the end of the spare VMM");
  await host.client.resumeSandbox({ sandboxId: large });
  assertEquals(await host.run(large, "echo on"), "on");
});

Deno.test("after a killed agent, its successor ends the spare VMM and adopts the VM that came from one", async () => {
  const home = await makeTestHome();
  try {
    const address = `unix:${home}/agent.sock`;
    let ids: string[] = [];
    {
      await using agent = await startHostAgentProcess(home, { spareVmm: true });
      const { create, run } = sandboxHelpers(agent.client);
      ids = [await create(), await create()];
      await run(ids[0]!, "echo kept > /dev/shm/mark");
      await agent.client.pauseSandbox({ sandboxId: ids[0]! });
      await agent.client.resumeSandbox({ sandboxId: ids[0]! });
      await agent.client.pauseSandbox({ sandboxId: ids[1]! });
      await eventually(async () => (await spareProcesses(home)).length === 2 || undefined, "a taken and a waiting VMM");
      await agent.end("SIGKILL");
    }
    {
      await using agent = await startHostAgentProcess(home);
      using client = openTestClient(address);
      assertEquals((await spareProcesses(home)).length, 1);
      assertEquals(await sandboxHelpers(client).run(ids[0]!, "cat /dev/shm/mark"), "kept");
      for (const sandboxId of ids) await client.destroySandbox({ sandboxId });
      assertEquals(await spareProcesses(home), []);
      await agent.end("SIGTERM");
    }
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
