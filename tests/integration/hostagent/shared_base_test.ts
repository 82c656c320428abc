import { assert, assertEquals, assertInstanceOf, AssertionError, assertNotEquals } from "@std/assert";
import { PagerExit } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { eventually, startHostAgentProcess, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { makeTestHome, sandboxHelpers } from "@torpor/testing/hostagent";
import { Layout } from "../../../services/hostagent/storage/layout.ts";
import { Sibling } from "../../../services/hostagent/memory/sibling.ts";

const MIB = 2 ** 20;
const DATA_MIB = 48;
/** Random bytes in memory: half of them are read by everybody, the others only later. */
const PREPARE = `for name in early late; do head -c ${DATA_MIB / 2 * MIB} /dev/urandom > /dev/shm/$name; done; sync`;
const EARLY = "md5sum < /dev/shm/early";
const LATE = "md5sum < /dev/shm/late";

/** A sandbox that has become a snapshot, and the checksums of its data. */
async function makeSnapshot(host: Pick<TestHostAgent, "client" | "create" | "run">) {
  const source = await host.create();
  await host.run(source, PREPARE);
  const early = await host.run(source, EARLY);
  const late = await host.run(source, LATE);
  const snapshotId = newId();
  await host.client.createSnapshot({ sandboxId: source, snapshotId, keepSandbox: false });
  return { snapshotId, early, late };
}

async function spawn(host: Pick<TestHostAgent, "client">, snapshotId: string): Promise<string> {
  return (await host.client.createSandbox({ sandboxId: newId(), snapshotId })).sandboxId;
}

function vmOf(host: TestHostAgent, sandboxId: string) {
  return host.agent.manager.get(sandboxId).vm!;
}

function siblingOf(host: TestHostAgent, sandboxId: string): Sibling {
  const { pager } = vmOf(host, sandboxId);
  assertInstanceOf(pager, Sibling);
  return pager;
}

/** What a process has mapped of the base, MiB. */
async function mapped(pid: number, snapshotId: string): Promise<{ rss: number; pss: number; own: number }> {
  const total = { rss: 0, pss: 0, own: 0 };
  let inside = false;
  for (const line of (await Deno.readTextFile(`/proc/${pid}/smaps`)).split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inside = line.includes(`memfd:torpor-base-${snapshotId}`);
    const [, field, kilobytes] = /^(Rss|Pss|Anonymous):\s+(\d+) kB$/.exec(line) ?? [];
    if (!inside || !field) continue;
    const key = field === "Rss" ? "rss" : field === "Pss" ? "pss" : "own";
    total[key] += Number(kilobytes) / 1024;
  }
  return total;
}

Deno.test("three sandboxes spawned from one snapshot share what they do not write", async (t) => {
  await using host = await startTestHostAgent();
  const { snapshotId, early, late } = await makeSnapshot(host);
  const ids = await Promise.all([1, 2, 3].map(() => spawn(host, snapshotId)));
  await t.step("one process serves all, and reads each page once", async () => {
    for (const id of ids) assertEquals(await host.run(id, EARLY), early);
    const bases = new Set(ids.map((id) => siblingOf(host, id).base));
    assertEquals(bases.size, 1);
    const [base] = bases;
    const read = base!.stats().bytesRead.reduce((sum, bytes) => sum + bytes, 0);
    assertEquals(read, (base!.stats().dataPagesServed + base!.stats().prefetchedPages) * 4096);
    assert(read < 192 * MIB);
  });
  await t.step("the host has the data once", async () => {
    const each = await Promise.all(ids.map((id) => mapped(vmOf(host, id).vmm.process.pid, snapshotId)));
    for (const { rss } of each) assert(rss > DATA_MIB / 2, `${rss} MiB`);
    const rss = each.reduce((sum, one) => sum + one.rss, 0);
    const pss = each.reduce((sum, one) => sum + one.pss, 0);
    console.log("siblings map MiB", { rss, pss, own: each.map(({ own }) => own) });
    assert(pss < rss / 2, `${pss} of ${rss} MiB`);
    for (const id of ids) assertEquals(vmOf(host, id).memory.sizeBytes, 192 * MIB);
  });
  await t.step("what one writes stays its own, over a pause", async () => {
    for (const id of ids) {
      await host.run(id, `echo ${id} > /dev/shm/mark; head -c ${MIB} /dev/urandom >> /dev/shm/own; rm /root/x -f`);
    }
    const own = await host.run(ids[0]!, "md5sum < /dev/shm/own");
    const { snapshot } = await host.client.pauseSandbox({ sandboxId: ids[0] });
    assertEquals(snapshot?.generation, 1);
    assert(snapshot!.memoryBytes < BigInt(DATA_MIB / 2 * MIB), `${snapshot!.memoryBytes} bytes`);
    await host.client.resumeSandbox({ sandboxId: ids[0] });
    assertEquals(
      await host.run(ids[0]!, `cat /dev/shm/mark; md5sum < /dev/shm/own; ${EARLY}`),
      `${ids[0]}\n${own}\n${early}`,
    );
    assertNotEquals(await host.run(ids[1]!, "md5sum < /dev/shm/own"), own);
    for (const id of ids.slice(1)) assertEquals(await host.run(id, `cat /dev/shm/mark; ${EARLY}`), `${id}\n${early}`);
  });
  await t.step("a checkpoint of one can be spawned from, and the one goes on", async () => {
    const checkpointId = newId();
    const sandboxId = ids[1]!;
    await host.client.createSnapshot({ sandboxId, snapshotId: checkpointId, keepSandbox: true });
    const own = await host.run(sandboxId, "md5sum < /dev/shm/own");
    await host.run(sandboxId, "rm /dev/shm/own; head -c 3000000 /dev/zero > /dev/shm/zeros");
    const child = await spawn(host, checkpointId);
    assertEquals(
      await host.run(child, `cat /dev/shm/mark; md5sum < /dev/shm/own; ${EARLY}`),
      `${sandboxId}\n${own}\n${early}`,
    );
    await host.client.destroySandbox({ sandboxId: child });
    await host.client.pauseSandbox({ sandboxId });
    await host.client.resumeSandbox({ sandboxId });
    assertEquals(
      await host.run(sandboxId, `cat /dev/shm/mark; ls /dev/shm; ${LATE}`),
      `${sandboxId}\nearly\nlate\nmark\nzeros\n${late}`,
    );
  });
});

const SIGKILL = 9;
const SIGSTOP = 19;

/** The pid of the process that answers the page faults of a base's siblings. */
function serverOf(host: TestHostAgent, sandboxId: string): number {
  return siblingOf(host, sandboxId).base.stats().pid;
}

/** Checks that sandboxes of a snapshot read its data, and map the same pages. */
async function checkShared(host: TestHostAgent, ids: string[], snapshotId: string, expected: string): Promise<void> {
  for (const id of ids) assertEquals(await host.run(id, `${EARLY}; ${LATE}`), expected);
  const each = await Promise.all(ids.map((id) => mapped(vmOf(host, id).vmm.process.pid, snapshotId)));
  for (const { rss, own } of each) {
    assert(rss > DATA_MIB, `${rss} MiB`);
    assert(own < DATA_MIB / 2, `${own} of ${rss} MiB are its own`);
  }
}

Deno.test("a base pager that is killed while siblings read has a successor, and they go on sharing", async (t) => {
  await using host = await startTestHostAgent();
  const { snapshotId, early, late } = await makeSnapshot(host);
  const expected = `${early}\n${late}`;
  const ids: string[] = await Promise.all([spawn(host, snapshotId), spawn(host, snapshotId)]);
  const { base } = siblingOf(host, ids[0]!);
  await t.step("what serves: another one takes its place, without this agent", async () => {
    const reading = ids.map((id) => host.run(id, EARLY));
    const killed = serverOf(host, ids[0]!);
    Deno.kill(killed, "SIGKILL");
    for (const read of reading) assertEquals(await read, early);
    assertNotEquals(serverOf(host, ids[0]!), killed);
    assertEquals(ids.map((id) => siblingOf(host, id).base), [base, base]);
    await checkShared(host, ids, snapshotId, expected);
  });
  await t.step("what keeps its files: the one that serves is found, and takes new siblings", async () => {
    base.process.signal(SIGKILL);
    const moved = () => Promise.resolve(ids.every((id) => siblingOf(host, id).base !== base) || undefined);
    await eventually(moved, "the survivor");
    const survivor = siblingOf(host, ids[0]!).base;
    assertEquals(siblingOf(host, ids[1]!).base, survivor);
    assertEquals(survivor.successor, false);
    ids.push(await spawn(host, snapshotId));
    assertEquals(siblingOf(host, ids[2]!).base, survivor);
    await checkShared(host, ids, snapshotId, expected);
    await host.client.pauseSandbox({ sandboxId: ids[1] });
    await host.client.resumeSandbox({ sandboxId: ids[1] });
    assertEquals(await host.run(ids[1]!, LATE), late);
  });
  await t.step("both at once: they get pages of their own, and the bytes are right", async () => {
    const { base } = siblingOf(host, ids[0]!);
    base.process.signal(SIGSTOP);
    Deno.kill(serverOf(host, ids[0]!), "SIGKILL");
    base.process.signal(SIGKILL);
    const served = () => Promise.resolve(siblingOf(host, ids[0]!).base.successor || undefined);
    await eventually(served, "a successor");
    for (const id of ids) assertEquals(await host.run(id, `${EARLY}; ${LATE}`), expected);
    // The successor cannot fill the base: who comes now starts another one.
    const next = await spawn(host, snapshotId);
    assertNotEquals(siblingOf(host, next).base, siblingOf(host, ids[0]!).base);
    assertEquals(await host.run(next, LATE), late);
  });
});

for (const victim of ["server", "keeper"] as const) {
  Deno.test(`a base pager whose ${victim} is killed while there is no agent goes on, and the siblings share`, async () => {
    const home = await makeTestHome();
    try {
      let snapshotId: string, expected: string, ids: string[], keeper: number;
      {
        await using agent = await startHostAgentProcess(home);
        const host = { client: agent.client, ...sandboxHelpers(agent.client) };
        const made = await makeSnapshot(host);
        snapshotId = made.snapshotId;
        expected = `${made.early}\n${made.late}`;
        ids = await Promise.all([spawn(host, snapshotId), spawn(host, snapshotId)]);
        await agent.end("SIGKILL");
        keeper = await keeperOf(home, ids[0]!);
      }
      const server = await onlyChildOf(keeper);
      Deno.kill(victim === "server" ? server : keeper, "SIGKILL");
      await using host = await startTestHostAgent({ home });
      const { base } = siblingOf(host, ids[0]!);
      assertEquals(siblingOf(host, ids[1]!).base, base);
      assertEquals(base.process.pid, victim === "server" ? keeper : server);
      ids.push(await spawn(host, snapshotId));
      assertEquals(siblingOf(host, ids[2]!).base, base);
      await checkShared(host, ids, snapshotId, expected);
      assertNotEquals(serverOf(host, ids[0]!), server);
      await host.agent.manager.destroyAll();
    } finally {
      await Deno.remove(home, { recursive: true });
    }
  });
}

/** The pid that a sandbox's record has for its base. */
async function keeperOf(home: string, sandboxId: string): Promise<number> {
  const { runningRecord } = new Layout(home).sandbox(sandboxId);
  return JSON.parse(await Deno.readTextFile(runningRecord)).vm.pager.pid;
}

async function onlyChildOf(pid: number): Promise<number> {
  const children = (await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`)).trim().split(" ");
  assertEquals(children.length, 1);
  return Number(children[0]);
}

Deno.test("memory that a sibling frees leaves the host, and does not come back", async () => {
  await using host = await startTestHostAgent();
  const { snapshotId, early, late } = await makeSnapshot(host);
  const id = await spawn(host, snapshotId);
  await host.run(id, `head -c ${16 * MIB} /dev/urandom > /dev/shm/own`);
  const { pid } = vmOf(host, id).vmm.process;
  assert((await mapped(pid, snapshotId)).own > 16);
  await host.run(id, "rm /dev/shm/own /dev/shm/early; echo 1 > /proc/sys/vm/compact_memory");
  await eventually(async () => (await mapped(pid, snapshotId)).own < 12 || undefined, "freed memory given back");
  const { snapshot } = await host.client.pauseSandbox({ sandboxId: id });
  assert(snapshot!.memoryBytes < 16_000_000n, `${snapshot!.memoryBytes} bytes`);
  await host.client.resumeSandbox({ sandboxId: id });
  assertEquals(await host.run(id, LATE), late);
  // Another one has all of it.
  assertEquals(await host.run(await spawn(host, snapshotId), `${EARLY}; ${LATE}`), `${early}\n${late}`);
});

Deno.test("siblings and their base outlive the agent", async () => {
  const home = await makeTestHome();
  try {
    let snapshotId: string, checksum: string, ids: string[];
    {
      await using agent = await startHostAgentProcess(home);
      const host = { client: agent.client, ...sandboxHelpers(agent.client) };
      const made = await makeSnapshot(host);
      snapshotId = made.snapshotId;
      checksum = `${made.early}\n${made.late}`;
      ids = await Promise.all([spawn(host, snapshotId), spawn(host, snapshotId)]);
      await host.run(ids[0]!, "echo mine > /dev/shm/mark");
      await agent.end("SIGKILL");
    }
    await using host = await startTestHostAgent({ home });
    const base = siblingOf(host, ids[0]!).base;
    assertEquals(siblingOf(host, ids[1]!).base, base);
    for (const id of ids) assertEquals(await host.run(id, `${EARLY}; ${LATE}`), checksum);
    const joined = await spawn(host, snapshotId);
    assertEquals(siblingOf(host, joined).base, base);
    assertEquals(await host.run(joined, `${EARLY}; ${LATE}`), checksum);
    await host.client.pauseSandbox({ sandboxId: ids[0] });
    await host.client.resumeSandbox({ sandboxId: ids[0] });
    assertEquals(await host.run(ids[0]!, `cat /dev/shm/mark; ${EARLY}; ${LATE}`), `mine\n${checksum}`);
    await host.agent.manager.destroyAll();
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});

Deno.test("without a shared base, spawned sandboxes have their own pages", async () => {
  await using host = await startTestHostAgent({ sharedBase: false });
  const { snapshotId, early } = await makeSnapshot(host);
  const id = await spawn(host, snapshotId);
  assert(!(vmOf(host, id).pager instanceof Sibling));
  assertEquals(vmOf(host, id).tracking === "private_pages", false);
  assertEquals(await host.run(id, EARLY), early);
});

Deno.test("a snapshot that cannot be read ends all its siblings with a reason, and never serves a wrong page", async () => {
  await using host = await startTestHostAgent({ overrides: { prefetch: false } });
  const { snapshotId, early } = await makeSnapshot(host);
  const ids = [await spawn(host, snapshotId), await spawn(host, snapshotId)];
  assertEquals(await host.run(ids[0]!, EARLY), early);
  const { base } = siblingOf(host, ids[0]!);
  for (const source of vmOf(host, ids[0]!).parent!.table.sources) {
    await Deno.truncate(host.layout.snapshot(source).memoryData, 0);
  }
  await host.run(ids[1]!, `${LATE}; ${EARLY}`).then(
    (read) => assert(false, `it read ${read}`),
    (error) => assert(!(error instanceof AssertionError), error),
  );
  for (const sandboxId of ids) {
    const lost = async () => (await host.client.getSandbox({ sandboxId })).sandbox;
    const sandbox = await eventually(async () => {
      const now = await lost();
      return now?.status === "failed" ? now : undefined;
    }, "the end of a sibling");
    assertEquals(sandbox.reason, "pager_failed");
  }
  assertEquals((await base.process.exited).code, PagerExit.read);
});
