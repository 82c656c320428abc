import { assert, assertEquals } from "@std/assert";
import {
  eventually,
  type HostAgentProcess,
  makeTestHome,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
} from "@torpor/testing/hostagent";

/** Runs `work` with an agent process on `home` and ends it as `signal` says. */
async function withAgent<T>(
  home: string,
  crashAt: string,
  work: (agent: HostAgentProcess & ReturnType<typeof sandboxHelpers>) => Promise<T>,
): Promise<T> {
  await using agent = await startHostAgentProcess(home, { crashAt });
  return await work({ ...agent, ...sandboxHelpers(agent.client) });
}

async function withHome(work: (home: string) => Promise<void>): Promise<void> {
  const home = await makeTestHome();
  try {
    await work(home);
    // Ends what the test left, and shows that a restarted agent still can.
    await withAgent(home, "", async ({ client, ended }) => {
      await client.terminate({});
      await ended;
    });
    assertEquals(await processesWith(home), []);
    assertEquals([...Deno.readDirSync(`${home}/sandboxes`), ...Deno.readDirSync(`${home}/snapshots`)], []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

const COUNT = `nohup bash -c 'while true; do echo >> /dev/shm/count; sleep 0.05; done' > /dev/null 2>&1 & echo $!`;

Deno.test("a killed agent's running VMs are adopted: booted and resumed ones, with their dirty pages", async () => {
  await withHome(async (home) => {
    const ids = await withAgent(home, "", async ({ client, create, run, end }) => {
      const booted = await create();
      const resumed = await create();
      for (const id of [booted, resumed]) await run(id, COUNT);
      await client.pauseSandbox({ sandboxId: resumed });
      await client.resumeSandbox({ sandboxId: resumed });
      await run(resumed, "echo after > /dev/shm/mark");
      await end("SIGKILL");
      return [booted, resumed];
    });
    assertEquals((await processesWith(home)).length, 2);
    await withAgent(home, "", async ({ client, run, end }) => {
      for (const sandboxId of ids) {
        const before = Number(await run(sandboxId, "wc -l < /dev/shm/count"));
        await client.pauseSandbox({ sandboxId });
        await client.resumeSandbox({ sandboxId });
        assert(Number(await run(sandboxId, "wc -l < /dev/shm/count")) >= before);
      }
      assertEquals(await run(ids[1]!, "cat /dev/shm/mark"), "after");
      await end("SIGTERM");
    });
  });
});

Deno.test("an agent that stops pauses what runs, and its successor reports it until acknowledged", async () => {
  await withHome(async (home) => {
    const id = await withAgent(home, "", async ({ create, run, end }) => {
      const id = await create();
      await run(id, "echo kept > /dev/shm/mark");
      await end("SIGTERM");
      return id;
    });
    assertEquals(await processesWith(home), []);
    await withAgent(home, "", async ({ client, run }) => {
      const { sandboxes, autoPausedSandboxIds } = await client.listSandboxes({});
      assertEquals([sandboxes[0]?.status, autoPausedSandboxIds], ["paused", [id]]);
      const { autoPausedSandboxIds: left } = await client.listSandboxes({ acknowledgedAutoPausedIds: [id] });
      assertEquals(left, []);
      await client.resumeSandbox({ sandboxId: id });
      assertEquals(await run(id, "cat /dev/shm/mark"), "kept");
    });
  });
});

/** Where an agent is killed in a pause, and what its successor must find. */
const PAUSE_CRASHES: [string, "running" | "paused"][] = [
  ["pause.device_state", "running"],
  ["pause.export_memory", "running"],
  ["pause.commit", "running"],
  ["pause.release", "paused"],
];

for (const [step, expected] of PAUSE_CRASHES) {
  Deno.test(`an agent killed at ${step} leaves the sandbox ${expected}`, async () => {
    await withHome(async (home) => {
      const id = await withAgent(home, step, async ({ client, create, run, ended }) => {
        const id = await create();
        await run(id, "echo kept > /dev/shm/mark");
        await Promise.all([client.pauseSandbox({ sandboxId: id }).catch(() => {}), ended]);
        return id;
      });
      await withAgent(home, "", async ({ client, run }) => {
        const { sandbox } = await client.getSandbox({ sandboxId: id });
        assertEquals(sandbox?.status, expected);
        assertEquals([...Deno.readDirSync(`${home}/staging`)], []);
        assertEquals((await processesWith(home)).length, expected === "running" ? 1 : 0);
        if (expected === "paused") await client.resumeSandbox({ sandboxId: id });
        assertEquals(await run(id, "cat /dev/shm/mark"), "kept");
      });
    });
  });
}

for (const step of ["resume.load_device_state", "resume.start_vcpus", "resume.guest_hello"]) {
  Deno.test(`an agent killed at ${step} leaves the sandbox paused`, async () => {
    await withHome(async (home) => {
      const id = await withAgent(home, step, async ({ client, create, run, ended }) => {
        const id = await create();
        await run(id, "echo kept > /dev/shm/mark");
        await client.pauseSandbox({ sandboxId: id });
        await Promise.all([client.resumeSandbox({ sandboxId: id }).catch(() => {}), ended]);
        return id;
      });
      await withAgent(home, "", async ({ client, run }) => {
        assertEquals((await client.getSandbox({ sandboxId: id })).sandbox?.status, "paused");
        assertEquals(await processesWith(home), []);
        await client.resumeSandbox({ sandboxId: id });
        assertEquals(await run(id, "cat /dev/shm/mark"), "kept");
      });
    });
  });
}

Deno.test("an agent killed while it creates a sandbox leaves nothing of it", async () => {
  await withHome(async (home) => {
    await withAgent(home, "create.boot", async ({ create, ended }) => {
      await Promise.all([create().catch(() => {}), ended]);
    });
    await withAgent(home, "", async ({ client }) => {
      assertEquals((await client.listSandboxes({})).sandboxes, []);
      assertEquals(await processesWith(home), []);
    });
  });
});

Deno.test("a VM that died while no agent ran is reported", async () => {
  await withHome(async (home) => {
    const id = await withAgent(home, "", async ({ create, end }) => {
      const id = await create();
      await end("SIGKILL");
      return id;
    });
    for (const pid of await processesWith(home)) Deno.kill(pid, "SIGKILL");
    await eventually(async () => (await processesWith(home)).length === 0 || undefined, "the end of the VM");
    await withAgent(home, "", async ({ client }) => {
      const { sandbox } = await client.getSandbox({ sandboxId: id });
      assertEquals([sandbox?.status, sandbox?.reason], ["failed", "vm_gone"]);
    });
  });
});

Deno.test("a full disk fails the pause with no_space, and the sandbox runs on", async () => {
  const home = await makeTestHome();
  try {
    // A data directory of 64 MiB in a mount namespace of its own: it goes with the process.
    const mount = `mount -t tmpfs -o size=64m tmpfs "$0" && exec "$@"`;
    const wrap = ["unshare", "--mount", "sh", "-c", mount, home];
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    await using agent = await startHostAgentProcess(home, { wrap, address: `http://127.0.0.1:${port}` });
    const { create, run } = sandboxHelpers(agent.client);
    const id = await create();
    await run(id, "head -c 70000000 /dev/urandom > /dev/shm/random");
    const checksum = await run(id, "md5sum /dev/shm/random");
    const failed = await agent.client.pauseSandbox({ sandboxId: id }).catch((error) => error.code);
    assertEquals(failed, "no_space");
    assertEquals((await agent.client.getSandbox({ sandboxId: id })).sandbox?.status, "running");
    assertEquals(await run(id, "md5sum /dev/shm/random; rm /dev/shm/random"), checksum);
    await agent.client.terminate({});
    await agent.ended;
    assertEquals(await processesWith(home), []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
