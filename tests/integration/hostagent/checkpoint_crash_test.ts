import { assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { makeTestHome, processesWith, sandboxHelpers, startHostAgentProcess } from "@torpor/testing/hostagent";

/** What is written before a checkpoint, and while one is under way, must be in the next generation. */
const FILL = "head -c 6000000 /dev/urandom > /dev/shm/before; md5sum < /dev/shm/before";
const CHANGE = "head -c 2000000 /dev/urandom > /dev/shm/after; md5sum /dev/shm/before /dev/shm/after";

/** Where the agent is killed. Marks of written pages have been taken in all but the first. */
const STEPS = ["checkpoint.copy_disk", "checkpoint.last_round", "checkpoint.commit"];

for (const origin of ["booted", "resumed"]) {
  for (const step of STEPS) {
    Deno.test(`an agent killed at ${step} of a ${origin} sandbox: its successor's next pause has every page`, async () => {
      const home = await makeTestHome();
      try {
        const sandboxId = newId();
        let before = "";
        {
          await using agent = await startHostAgentProcess(home, { crashAt: step });
          const { run } = sandboxHelpers(agent.client);
          await agent.client.createSandbox({ sandboxId, vcpus: 1, memoryMb: 192, diskSizeMb: 256 });
          if (origin === "resumed") {
            await agent.client.pauseSandbox({ sandboxId });
            await agent.client.resumeSandbox({ sandboxId });
          }
          before = await run(sandboxId, FILL);
          const checkpoint = agent.client.createSnapshot({ sandboxId, snapshotId: newId(), keepSandbox: true });
          await Promise.all([checkpoint.catch(() => {}), agent.ended]);
        }
        await using agent = await startHostAgentProcess(home);
        const { run } = sandboxHelpers(agent.client);
        assertEquals((await agent.client.getSandbox({ sandboxId })).sandbox?.status, "running");
        assertEquals([...Deno.readDirSync(`${home}/staging`)], []);
        const sums = await run(sandboxId, CHANGE);
        assertEquals(sums.split(" ")[0], before.split(" ")[0]);
        const next = async () => {
          await agent.client.pauseSandbox({ sandboxId });
          await agent.client.resumeSandbox({ sandboxId });
          assertEquals(await run(sandboxId, "md5sum /dev/shm/before /dev/shm/after"), sums);
        };
        if (step === "checkpoint.last_round") await next();
        // A checkpoint by the successor: what its predecessor left in the VMM does not get in its way.
        await agent.client.createSnapshot({ sandboxId, snapshotId: newId(), keepSandbox: true });
        await next();
        await agent.client.terminate({});
        await agent.ended;
        assertEquals(await processesWith(home), []);
      } finally {
        await Deno.remove(home, { recursive: true });
      }
    });
  }
}

Deno.test("a full disk fails a checkpoint with no_space, and the source runs on", async () => {
  const home = await makeTestHome();
  try {
    // A data directory of 72 MiB in a mount namespace of its own: it goes with the process.
    const wrap = ["unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=72m tmpfs "$0" && exec "$@"`, home];
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    await using agent = await startHostAgentProcess(home, { wrap, address: `http://127.0.0.1:${port}` });
    const { create, run } = sandboxHelpers(agent.client);
    const sandboxId = await create();
    await run(
      sandboxId,
      "head -c 1000000 /dev/urandom > /dev/shm/kept; head -c 70000000 /dev/urandom > /dev/shm/random",
    );
    const sum = await run(sandboxId, "md5sum < /dev/shm/kept");
    const snapshot = () => agent.client.createSnapshot({ sandboxId, snapshotId: newId(), keepSandbox: true });
    assertEquals(await snapshot().then(() => "made", (error) => error.code), "no_space");
    assertEquals((await agent.client.getSandbox({ sandboxId })).sandbox?.status, "running");
    assertEquals(
      await run(sandboxId, "rm /dev/shm/random; echo 1 > /proc/sys/vm/drop_caches; md5sum < /dev/shm/kept"),
      sum,
    );
    await agent.client.terminate({});
    await agent.ended;
    assertEquals(await processesWith(home), []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
