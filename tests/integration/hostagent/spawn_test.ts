import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { newId } from "@torpor/ids";
import { eventually, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";

/** Random bytes in memory and on disk, and a process that lives on and draws numbers, each with the name of its guest. */
const PREPARE = `
  head -c 20000000 /dev/urandom > /dev/shm/random
  head -c 8000000 /dev/urandom > /root/on-disk
  cat > /root/draw.sh <<'END'
  while sleep 0.2; do
    echo "$(cat /run/torpor/generation) $(od -An -N8 -tx8 /dev/urandom)" >> /dev/shm/draws
  done
END
  bash /root/draw.sh > /dev/null 2>&1 & echo $! > /dev/shm/pid
  sync`;
const CHECK = `kill -0 $(cat /dev/shm/pid) && md5sum /dev/shm/random /root/on-disk`;
/** Who the guest is, and numbers from its random generator. */
const WHO = `hostname; cat /etc/machine-id /run/torpor/generation; head -c 16 /dev/urandom | md5sum`;

const codeOf = (call: Promise<unknown>) => call.then(() => "none", (error) => error.code as string);

async function spawn(host: TestHostAgent, snapshotId: string): Promise<string> {
  const { sandboxId, status } = await host.client.createSandbox({ sandboxId: newId(), snapshotId });
  assertEquals(status, "running");
  return sandboxId;
}

function namesIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
}

/** What `keep` has made of a sandbox with the content of {@linkcode PREPARE}, spawned from by two. */
async function twoOfOne(
  t: Deno.TestContext,
  host: TestHostAgent,
  source: string,
  snapshotId: string,
  checksum: string,
) {
  const ids = await Promise.all([spawn(host, snapshotId), spawn(host, snapshotId)]);
  await t.step("both are somebody else with the same bytes", async () => {
    for (const id of ids) assertEquals(await host.run(id, CHECK), checksum);
    const who = await Promise.all(ids.map(async (id) => (await host.run(id, WHO)).split("\n")));
    assertEquals(who.map(([hostname]) => hostname), ids);
    for (const index of [1, 2, 3]) assertNotEquals(who[0]![index], who[1]![index]);
    const { sandbox } = await host.client.getSandbox({ sandboxId: ids[0] });
    assertEquals([sandbox?.memoryMb, sandbox?.vcpus, sandbox?.diskSizeMb, sandbox?.template], [192, 1, 512, "base"]);
  });
  await t.step("a process that lives on draws other numbers in each, from the first one on", async () => {
    const drawn = (id: string) =>
      eventually(async () => {
        const own = await host.run(id, `grep -F "$(cat /run/torpor/generation)" /dev/shm/draws || true`);
        const numbers = own.split("\n").map((line) => line.split(" ").at(-1));
        return numbers.length >= 3 ? numbers : undefined;
      }, "three draws");
    const [first, second] = [new Set(await drawn(ids[0]!)), new Set(await drawn(ids[1]!))];
    assertEquals([...first.intersection(second)], []);
  });
  await t.step("what one writes the other does not see, over pauses, and without the snapshot", async () => {
    const write = (id: string) => `echo ${id} > /root/mark; head -c 3000000 /dev/urandom > /dev/shm/own; sync`;
    for (const id of ids) await host.run(id, `${write(id)}; md5sum /dev/shm/own > /root/own.md5`);
    await host.client.deleteSnapshot({ snapshotId });
    assertEquals((await host.client.listSnapshots({})).snapshots, []);
    assertEquals(await codeOf(host.client.createSandbox({ sandboxId: newId(), snapshotId })), "snapshot_not_found");
    for (let generation = 1; generation <= 2; generation++) {
      for (const sandboxId of ids) {
        const { snapshot } = await host.client.pauseSandbox({ sandboxId });
        assertEquals(snapshot?.generation, generation);
        // What the snapshot has is not stored again.
        assert(snapshot!.memoryBytes < 40_000_000n, `${snapshot!.memoryBytes} bytes`);
        await host.client.resumeSandbox({ sandboxId });
        assertEquals(await host.run(sandboxId, CHECK), checksum);
        assertEquals(await host.run(sandboxId, "cat /root/mark; md5sum --quiet -c /root/own.md5"), sandboxId);
        assertEquals(await host.run(sandboxId, "hostname"), sandboxId);
      }
    }
  });
  await t.step("nothing is left when all are gone", async () => {
    for (const sandboxId of [...ids, source]) await host.client.destroySandbox({ sandboxId });
    assertEquals([namesIn(host.layout.snapshots), namesIn(host.layout.sandboxes)], [[], []]);
  });
}

Deno.test("two sandboxes spawned from a paused one's snapshot", async (t) => {
  await using host = await startTestHostAgent();
  const source = await host.create();
  await host.run(source, PREPARE);
  const checksum = await host.run(source, CHECK);
  await host.client.pauseSandbox({ sandboxId: source });
  const snapshotId = newId();
  await t.step("the snapshot shares the newest generation's bytes", async () => {
    const made = await host.client.createSnapshot({ sandboxId: source, snapshotId, name: "set up", keepSandbox: true });
    assertEquals([made.snapshot?.snapshotId, made.name, made.stoppedUs], [snapshotId, "set up", 0n]);
    assertEquals(made.snapshot?.memoryBytes, 0n);
    const { snapshots: [kept] } = await host.client.listSnapshots({});
    assertEquals([kept?.snapshot?.snapshotId, kept?.sandboxId, kept?.memoryMb], [snapshotId, source, 192]);
    // The same call again, by another operation.
    const again = await host.client.createSnapshot({ sandboxId: source, snapshotId, keepSandbox: true });
    assertEquals(again.snapshot, made.snapshot);
  });
  await t.step("a snapshot that cannot be made leaves the sandbox as it was", async () => {
    const other = await host.create();
    const made = await codeOf(host.client.createSnapshot({ sandboxId: other, snapshotId, keepSandbox: true }));
    assertEquals(made, "already_exists");
    const { sandbox } = await host.client.getSandbox({ sandboxId: other });
    assertEquals([sandbox?.status, sandbox?.reason], ["running", ""]);
    await host.client.destroySandbox({ sandboxId: other });
  });
  await twoOfOne(t, host, source, snapshotId, checksum);
});

Deno.test("two sandboxes spawned from a running one's snapshot, which goes on", async (t) => {
  await using host = await startTestHostAgent();
  const source = await host.create();
  await host.run(source, PREPARE);
  const checksum = await host.run(source, CHECK);
  const snapshotId = newId();
  await t.step("the source runs on and is right after its own pause", async () => {
    const request = { sandboxId: source, snapshotId, keepSandbox: true, operationId: newId() };
    const made = await host.client.createSnapshot(request);
    assert(made.stoppedUs > 0n);
    assertEquals((await host.client.createSnapshot(request)).snapshot, made.snapshot);
    assertEquals((await host.client.getSandbox({ sandboxId: source })).sandbox?.status, "running");
    await host.run(source, "echo source > /root/mark");
    await host.client.pauseSandbox({ sandboxId: source });
    await host.client.resumeSandbox({ sandboxId: source });
    assertEquals(await host.run(source, `cat /root/mark; ${CHECK}`), `source\n${checksum}`);
  });
  await twoOfOne(t, host, source, snapshotId, checksum);
});

Deno.test("a sandbox can become a snapshot, and what is asked for wrongly is refused", async (t) => {
  await using host = await startTestHostAgent();
  const { client } = host;
  const source = await host.create();
  await host.run(source, "echo kept > /dev/shm/mark; echo kept > /root/mark; sync");
  const snapshotId = newId();
  await t.step("hostile ids and names", async () => {
    const create = (changes: object) =>
      codeOf(client.createSnapshot({ sandboxId: source, keepSandbox: true, ...changes }));
    for (const hostile of ["../../etc", "A".repeat(20), "a".repeat(19), `${"a".repeat(20)}\0`]) {
      assertEquals(await create({ snapshotId: hostile }), "invalid_argument");
      assertEquals(await codeOf(client.createSandbox({ snapshotId: hostile })), "invalid_argument");
      assertEquals(await codeOf(client.deleteSnapshot({ snapshotId: hostile })), "invalid_argument");
    }
    for (const name of ["x".repeat(129), "line\nbreak", "\u0000", "\u202e"]) {
      assertEquals(await create({ name }), "invalid_argument");
    }
    assertEquals(await codeOf(client.deleteSnapshot({})), "invalid_argument");
    assertEquals(await codeOf(client.deleteSnapshot({ name: "nobody" })), "none");
    assertEquals(await codeOf(client.createSandbox({ snapshotId: newId() })), "snapshot_not_found");
    assertEquals((await client.listSnapshots({})).snapshots, []);
  });
  await t.step("it is saved, then destroyed", async () => {
    const made = await client.createSnapshot({ sandboxId: source, snapshotId, name: "all of it" });
    assertEquals(made.snapshot?.snapshotId, snapshotId);
    assertEquals((await client.listSandboxes({})).sandboxes, []);
    assertEquals(namesIn(host.layout.sandboxes), []);
    // Its caller may not have heard.
    assertEquals((await client.createSnapshot({ sandboxId: source, snapshotId })).snapshot, made.snapshot);
    assertEquals(await codeOf(client.createSnapshot({ sandboxId: newId(), snapshotId })), "already_exists");
  });
  await t.step("another machine than the snapshot's is refused, its own values are fine", async () => {
    const wrong = [{ vcpus: 2 }, { memoryMb: 256 }, { diskSizeMb: 1024 }, { template: "other" }, { vcpus: -1 }];
    for (const shape of wrong) {
      assertEquals(await codeOf(client.createSandbox({ snapshotId, ...shape })), "snapshot_mismatch");
    }
    assertEquals(namesIn(host.layout.sandboxes), []);
    const request = { sandboxId: newId(), snapshotId, memoryMb: 192, diskSizeMb: 512, operationId: newId() };
    const { sandboxId } = await client.createSandbox(request);
    assertEquals((await client.createSandbox(request)).sandboxId, sandboxId);
    assertEquals(await host.run(sandboxId, "cat /dev/shm/mark /root/mark"), "kept\nkept");
    await client.deleteSnapshot({ name: "all of it" });
    await client.destroySandbox({ sandboxId });
    assertEquals(namesIn(host.layout.snapshots), []);
  });
});

for (const step of ["resume.verify", "resume.load_device_state", "resume.guest_hello"]) {
  Deno.test(`a spawn that fails at ${step} leaves nothing of the sandbox, and all of the snapshot`, async () => {
    let failing = false;
    const onStep = (name: string) => {
      if (failing && name === step) throw new Error("as the test wants");
    };
    await using host = await startTestHostAgent({ overrides: { onStep } });
    const source = await host.create();
    await host.run(source, "echo kept > /dev/shm/mark");
    const snapshotId = newId();
    await host.client.createSnapshot({ sandboxId: source, snapshotId });
    const files = namesIn(host.layout.snapshot(snapshotId).directory);
    failing = true;
    assertEquals(await codeOf(host.client.createSandbox({ sandboxId: newId(), snapshotId })), "resume_failed");
    failing = false;
    assertEquals([namesIn(host.layout.sandboxes), (await host.client.listSandboxes({})).sandboxes], [[], []]);
    assertEquals(namesIn(host.layout.snapshot(snapshotId).directory), files);
    const id = await spawn(host, snapshotId);
    assertEquals(await host.run(id, "cat /dev/shm/mark"), "kept");
    await host.client.deleteSnapshot({ snapshotId });
  });
}

Deno.test("a snapshot that is deleted while a sandbox is spawned from it stays as long as the spawn needs it", async () => {
  let atStep: (() => Promise<unknown>) | undefined;
  const onStep = async (name: string) => {
    if (name !== "resume.load_device_state") return;
    const work = atStep;
    atStep = undefined;
    await work?.();
  };
  await using host = await startTestHostAgent({ overrides: { onStep } });
  const { client } = host;
  const make = async (sandboxId: string) => {
    const snapshotId = newId();
    await client.createSnapshot({ sandboxId, snapshotId });
    return snapshotId;
  };
  const source = await host.create();
  await host.run(source, "echo kept > /dev/shm/mark");
  const first = await make(source);

  atStep = () => client.deleteSnapshot({ snapshotId: first });
  const spawned = await spawn(host, first);
  assertEquals(await host.run(spawned, "cat /dev/shm/mark"), "kept");

  const directory = host.layout.snapshot(first).directory;
  assert(namesIn(directory).includes("state"));
  // From now on the sandbox is a difference to the checkpoint.
  const checkpoint = newId();
  await client.createSnapshot({ sandboxId: spawned, snapshotId: checkpoint, keepSandbox: true });
  assertEquals(namesIn(host.layout.snapshots).includes(first), false);
  await client.deleteSnapshot({ snapshotId: checkpoint });
  assert(namesIn(host.layout.snapshot(checkpoint).directory).includes("state"));

  const second = await make(spawned);
  atStep = async () => {
    await client.deleteSnapshot({ snapshotId: second });
    throw new Error("as the test wants");
  };
  assertEquals(await codeOf(client.createSandbox({ sandboxId: newId(), snapshotId: second })), "resume_failed");
  assertEquals([namesIn(host.layout.snapshots), namesIn(host.layout.sandboxes)], [[], []]);
});
