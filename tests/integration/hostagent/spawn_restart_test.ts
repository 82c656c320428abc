import { assertEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import {
  type HostAgentProcess,
  makeTestHome,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
} from "@torpor/testing/hostagent";

type Agent = HostAgentProcess & ReturnType<typeof sandboxHelpers>;

async function withAgent<T>(home: string, crashAt: string, work: (agent: Agent) => Promise<T>): Promise<T> {
  await using agent = await startHostAgentProcess(home, { crashAt });
  return await work({ ...agent, ...sandboxHelpers(agent.client) });
}

/** Runs `work`, then shows that a restarted agent can remove all that is left. */
async function withHome(work: (home: string) => Promise<void>): Promise<void> {
  const home = await makeTestHome();
  try {
    await work(home);
    await withAgent(home, "", async ({ client, ended }) => {
      const { snapshots } = await client.listSnapshots({});
      for (const { snapshot } of snapshots) await client.deleteSnapshot({ snapshotId: snapshot!.snapshotId });
      await client.terminate({});
      await ended;
    });
    assertEquals(await processesWith(home), []);
    assertEquals([namesIn(`${home}/sandboxes`), namesIn(`${home}/snapshots`)], [[], []]);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

function namesIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
}

/** Makes a snapshot whose memory and disk say "kept"; its source is gone. */
async function makeSnapshot({ client, create, run }: Agent): Promise<string> {
  const sandboxId = await create();
  await run(
    sandboxId,
    "head -c 8000000 /dev/urandom > /dev/shm/random; echo kept | tee /dev/shm/mark > /root/mark; sync",
  );
  await run(sandboxId, "md5sum /dev/shm/random > /root/md5; sync");
  const snapshotId = newId();
  await client.createSnapshot({ sandboxId, snapshotId });
  return snapshotId;
}

const CHECK = "md5sum --quiet -c /root/md5; cat /dev/shm/mark /root/mark";

Deno.test("spawned sandboxes go on under the next agent, though their snapshot was deleted", async () => {
  await withHome(async (home) => {
    const ids = await withAgent(home, "", async (agent) => {
      const { client, run } = agent;
      const snapshotId = await makeSnapshot(agent);
      const ids = [newId(), newId()];
      for (const sandboxId of ids) {
        await client.createSandbox({ sandboxId, snapshotId });
        await run(sandboxId, `echo ${sandboxId} > /root/own; echo ${sandboxId} > /dev/shm/own`);
      }
      await client.pauseSandbox({ sandboxId: ids[0] });
      await client.deleteSnapshot({ snapshotId });
      await agent.end("SIGKILL");
      return ids;
    });
    for (let round = 0; round < 2; round++) {
      await withAgent(home, "", async ({ client, run, end }) => {
        assertEquals((await client.listSnapshots({})).snapshots, []);
        const statuses = (await client.listSandboxes({})).sandboxes.map(({ status }) => status).sort();
        assertEquals(statuses, ["paused", "running"]);
        for (const sandboxId of ids) {
          await client.resumeSandbox({ sandboxId });
          assertEquals(await run(sandboxId, CHECK), "kept\nkept");
          assertEquals(await run(sandboxId, "cat /root/own /dev/shm/own"), `${sandboxId}\n${sandboxId}`);
        }
        await client.pauseSandbox({ sandboxId: ids[round] });
        await end("SIGKILL");
      });
    }
  });
});

Deno.test("a sandbox goes on under the next agent as a difference to its checkpoint, though that was deleted", async () => {
  await withHome(async (home) => {
    const write = (mark: string) =>
      `head -c 6000000 /dev/urandom > /dev/shm/${mark}; (cd /dev/shm; md5sum ${mark} >> /root/md5); sync`;
    const check = "cd /dev/shm && md5sum --quiet -c /root/md5";
    const sandboxId = await withAgent(home, "", async ({ client, create, run, end }) => {
      const sandboxId = await create();
      await run(sandboxId, write("first"));
      const snapshotId = newId();
      await client.createSnapshot({ sandboxId, snapshotId, keepSandbox: true });
      await run(sandboxId, write("second"));
      await client.deleteSnapshot({ snapshotId });
      await end("SIGKILL");
      return sandboxId;
    });
    await withAgent(home, "", async ({ client, run, end }) => {
      assertEquals((await client.getSandbox({ sandboxId })).sandbox?.status, "running");
      await run(sandboxId, `${check}; ${write("third")}`);
      await client.pauseSandbox({ sandboxId });
      await client.resumeSandbox({ sandboxId });
      await run(sandboxId, check);
      await end("SIGKILL");
    });
    await withAgent(home, "", async ({ client, run }) => {
      await client.pauseSandbox({ sandboxId });
      await client.resumeSandbox({ sandboxId });
      await run(sandboxId, check);
    });
  });
});

for (const step of ["resume.load_device_state", "resume.guest_hello"]) {
  Deno.test(`an agent killed at ${step} of a spawn leaves nothing of the sandbox, and all of the snapshot`, async () => {
    await withHome(async (home) => {
      const call = { sandboxId: newId(), operationId: newId() };
      const snapshotId = await withAgent(home, step, async (agent) => {
        const snapshotId = await makeSnapshot(agent);
        const spawned = agent.client.createSandbox({ ...call, snapshotId });
        await Promise.all([spawned.catch(() => {}), agent.ended]);
        return snapshotId;
      });
      await withAgent(home, "", async ({ client, run }) => {
        assertEquals((await client.listSandboxes({})).sandboxes, []);
        assertEquals([await processesWith(home), namesIn(`${home}/sandboxes`)], [[], []]);
        // The control plane repeats its call.
        await client.createSandbox({ ...call, snapshotId });
        assertEquals(await run(call.sandboxId, CHECK), "kept\nkept");
        await client.deleteSnapshot({ snapshotId });
      });
    });
  });
}

/** Where an agent is killed while a sandbox becomes a snapshot: what is left of the sandbox, and is the snapshot there? */
const SNAPSHOT_CRASHES: [string, string[], number][] = [
  ["pause.export_memory", ["running"], 0],
  ["snapshot.link", ["paused"], 0],
  ["snapshot.destroy", [], 1],
];

for (const [step, statuses, snapshots] of SNAPSHOT_CRASHES) {
  Deno.test(`an agent killed at ${step} has not lost the sandbox, which becomes a snapshot when asked again`, async () => {
    await withHome(async (home) => {
      const call = { sandboxId: "", operationId: newId(), snapshotId: newId(), name: "kept" };
      await withAgent(home, step, async ({ client, create, run, ended }) => {
        call.sandboxId = await create();
        await run(call.sandboxId, "echo kept | tee /dev/shm/mark > /root/mark; echo > /root/md5");
        await Promise.all([client.createSnapshot(call).catch(() => {}), ended]);
      });
      await withAgent(home, "", async ({ client, run }) => {
        assertEquals((await client.listSandboxes({})).sandboxes.map(({ status }) => status), statuses);
        assertEquals((await client.listSnapshots({})).snapshots.length, snapshots);
        const { snapshot } = await client.createSnapshot({ ...call, operationId: newId() });
        assertEquals(snapshot?.snapshotId, call.snapshotId);
        assertEquals([(await client.listSandboxes({})).sandboxes, namesIn(`${home}/staging`)], [[], []]);
        const { sandboxId } = await client.createSandbox({ snapshotId: call.snapshotId });
        assertEquals(await run(sandboxId, "cat /dev/shm/mark /root/mark"), "kept\nkept");
      });
    });
  });
}
