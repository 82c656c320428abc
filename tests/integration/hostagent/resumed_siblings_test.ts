/** Siblings that were paused by themselves: they go on sharing the base of the snapshot that they were spawned from. */
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { newId } from "@torpor/ids";
import {
  eventually,
  makeTestHome,
  sandboxHelpers,
  startHostAgentProcess,
  startTestHostAgent,
  type TestHostAgent,
} from "@torpor/testing/hostagent";
import { Sibling } from "../../../services/hostagent/memory/sibling.ts";

const MIB = 2 ** 20;
const COMMON_MIB = 48;
const COMMON = "md5sum < /dev/shm/common";
const OWN = "md5sum < /dev/shm/own";

type Host = Pick<TestHostAgent, "client" | "create" | "run">;

/** A snapshot with random bytes in memory. */
async function makeTemplate(host: Host, commonMib = COMMON_MIB): Promise<{ snapshotId: string; common: string }> {
  const source = await host.create();
  await host.run(source, `head -c ${commonMib * MIB} /dev/urandom > /dev/shm/common; sync`);
  const common = await host.run(source, COMMON);
  const snapshotId = newId();
  await host.client.createSnapshot({ sandboxId: source, snapshotId, keepSandbox: false });
  return { snapshotId, common };
}

async function spawn(host: Host, snapshotId: string): Promise<string> {
  return (await host.client.createSandbox({ sandboxId: newId(), snapshotId })).sandboxId;
}

/** Replaces what the sandbox has of its own by new random bytes. @returns their checksum. */
async function writeOwn(host: Host, id: string, mebibytes: number): Promise<string> {
  await host.run(id, `head -c ${mebibytes * MIB} /dev/urandom > /dev/shm/own`);
  return await host.run(id, OWN);
}

/** @returns bytes of memory that the pause has stored. */
async function sleep(host: Host, sandboxId: string): Promise<number> {
  return Number((await host.client.pauseSandbox({ sandboxId })).snapshot!.memoryBytes);
}

async function wake(host: Host, sandboxId: string): Promise<void> {
  await host.client.resumeSandbox({ sandboxId });
}

function siblingOf(host: TestHostAgent, id: string): Sibling | undefined {
  const { pager } = host.agent.manager.get(id).vm!;
  return pager instanceof Sibling ? pager : undefined;
}

/** What a VM has mapped of its base, MiB: all of it, and of that what is its own. */
async function mapped(host: TestHostAgent, id: string): Promise<{ rss: number; own: number }> {
  const { pid } = host.agent.manager.get(id).vm!.vmm.process;
  const total = { rss: 0, own: 0 };
  let inside = false;
  for (const line of (await Deno.readTextFile(`/proc/${pid}/smaps`)).split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inside = line.includes("memfd:torpor-base-");
    const [, field, kilobytes] = /^(Rss|Anonymous):\s+(\d+) kB$/.exec(line) ?? [];
    if (inside && field) total[field === "Rss" ? "rss" : "own"] += Number(kilobytes) / 1024;
  }
  return total;
}

Deno.test("siblings that were paused share again, store only what is new, and are right in generation 3", async (t) => {
  await using host = await startTestHostAgent();
  const { snapshotId, common } = await makeTemplate(host);
  const [one, two] = [await spawn(host, snapshotId), await spawn(host, snapshotId)];
  const { base } = siblingOf(host, one)!;
  let own = await writeOwn(host, one, 12);
  const ownOfTwo = await writeOwn(host, two, 4);
  const first = await sleep(host, one);
  await t.step("bytes are right, and in the same base", async () => {
    await wake(host, one);
    assertEquals(siblingOf(host, one)?.base, base);
    assertEquals(await host.run(one, `${COMMON}; ${OWN}`), `${common}\n${own}`);
    assertEquals(await host.run(two, `${COMMON}; ${OWN}`), `${common}\n${ownOfTwo}`);
  });
  await t.step("what it has in common with its template is not its own memory", async () => {
    const { rss, own } = await mapped(host, one);
    console.log("resumed sibling maps MiB", { rss, own });
    assert(rss - own > COMMON_MIB, `${own} of ${rss} MiB`);
    assert(own < first / MIB + 12, `${own} MiB`);
  });
  await t.step("the next pause stores what is new, not what was put over the base", async () => {
    await host.run(one, "head -c 1000000 /dev/urandom > /dev/shm/new");
    const second = await sleep(host, one);
    console.log("stored bytes", { first, second });
    assert(second < first / 2, `${second} after ${first} bytes`);
    await wake(host, one);
    assertEquals(await host.run(one, `${COMMON}; ${OWN}`), `${common}\n${own}`);
  });
  await t.step("generation 3, with zeros and rewritten bytes, is right", async () => {
    own = await writeOwn(host, one, 6);
    await host.run(one, "head -c 3000000 /dev/zero > /dev/shm/new");
    const zeros = await host.run(one, "md5sum < /dev/shm/new");
    await sleep(host, one);
    await wake(host, one);
    assertEquals(siblingOf(host, one)?.base, base);
    assertEquals(await host.run(one, `${COMMON}; ${OWN}; md5sum < /dev/shm/new`), `${common}\n${own}\n${zeros}`);
    assertEquals(await host.run(two, `${COMMON}; ${OWN}`), `${common}\n${ownOfTwo}`);
  });
  await t.step("a checkpoint of it is right, and the pause after it stores only what came since", async () => {
    const checkpointId = newId();
    await host.client.createSnapshot({ sandboxId: one, snapshotId: checkpointId, keepSandbox: true });
    const after = await sleep(host, one);
    assert(after < first / 2, `${after} bytes`);
    const child = await spawn(host, checkpointId);
    assertEquals(await host.run(child, `${COMMON}; ${OWN}`), `${common}\n${own}`);
    await wake(host, one);
    assertEquals(await host.run(one, `${COMMON}; ${OWN}`), `${common}\n${own}`);
    await host.client.destroySandbox({ sandboxId: child });
    await host.client.deleteSnapshot({ snapshotId: checkpointId });
  });
  await t.step("a base whose snapshot was deleted is joined while it is there", async () => {
    await host.client.deleteSnapshot({ snapshotId });
    await sleep(host, two);
    await host.client.collectSnapshots({});
    await wake(host, two);
    assertEquals(siblingOf(host, two)?.base, base);
    assertEquals(await host.run(two, `${COMMON}; ${OWN}`), `${common}\n${ownOfTwo}`);
  });
  await t.step("when it is gone, a resume has pages of its own", async () => {
    for (const id of [one, two]) await sleep(host, id);
    base.process.signal(15);
    await base.process.exited;
    await host.client.collectSnapshots({});
    await wake(host, one);
    assertEquals(siblingOf(host, one), undefined);
    assertEquals(await host.run(one, `${COMMON}; ${OWN}`), `${common}\n${own}`);
    await host.client.destroySandbox({ sandboxId: one });
    await wake(host, two);
    assertEquals(await host.run(two, `${COMMON}; ${OWN}`), `${common}\n${ownOfTwo}`);
    await host.client.destroySandbox({ sandboxId: two });
    assertEquals(Array.from(Deno.readDirSync(host.layout.snapshots), ({ name }) => name), []);
  });
});

Deno.test("a paused sibling starts the base again that has ended, and others join it", async () => {
  await using host = await startTestHostAgent();
  const { snapshotId, common } = await makeTemplate(host);
  const id = await spawn(host, snapshotId);
  const own = await writeOwn(host, id, 4);
  const before = siblingOf(host, id)!.base;
  await sleep(host, id);
  before.process.signal(15);
  await before.process.exited;
  await wake(host, id);
  const { base } = siblingOf(host, id)!;
  assert(base !== before);
  const joined = await spawn(host, snapshotId);
  assertEquals(siblingOf(host, joined)?.base, base);
  assertEquals(await host.run(id, `${COMMON}; ${OWN}`), `${common}\n${own}`);
  assertEquals(await host.run(joined, COMMON), common);
});

Deno.test("a sibling that has changed more than 64 MiB gets copies of its own", async () => {
  await using host = await startTestHostAgent();
  const { snapshotId, common } = await makeTemplate(host, 4);
  const id = await spawn(host, snapshotId);
  const own = await writeOwn(host, id, 66);
  await sleep(host, id);
  await wake(host, id);
  assertEquals(siblingOf(host, id), undefined);
  assertEquals(await host.run(id, `${COMMON}; ${OWN}`), `${common}\n${own}`);
});

Deno.test("a resumed sibling outlives the agent and its base pager, and its next pause is right", async () => {
  const home = await makeTestHome();
  try {
    let made: { snapshotId: string; common: string }, id: string, own: string;
    {
      await using agent = await startHostAgentProcess(home);
      const process = { client: agent.client, ...sandboxHelpers(agent.client) };
      made = await makeTemplate(process);
      id = await spawn(process, made.snapshotId);
      own = await writeOwn(process, id, 8);
      await sleep(process, id);
      await wake(process, id);
      await agent.end("SIGKILL");
    }
    await using host = await startTestHostAgent({ home });
    const adopted = siblingOf(host, id);
    assertInstanceOf(adopted, Sibling);
    adopted.base.process.signal(9);
    await eventually(() => Promise.resolve(siblingOf(host, id)?.base !== adopted.base || undefined), "a successor");
    assertEquals(await host.run(id, `${COMMON}; ${OWN}`), `${made.common}\n${own}`);
    await sleep(host, id);
    await wake(host, id);
    assertEquals(await host.run(id, `${COMMON}; ${OWN}`), `${made.common}\n${own}`);
    await host.agent.manager.destroyAll();
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
