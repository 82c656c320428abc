// A guest whose own write meets a full or failing disk of the host: it stands still and that is said, nobody hangs, and it
// goes on with nothing lost.
import { assert, assertEquals, assertLess } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import {
  eventually,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
  startTestHostAgent,
  type TestHostAgent,
} from "@torpor/testing/hostagent";
import { makeTestDisk, type TestDisk } from "@torpor/testing/test_disk";

type Client = TestHostAgent["client"];
type Run = TestHostAgent["run"];

/** A disk with hardly any room but what ext4 keeps for root, 38 MB of 768: what a guest writes then exceeds that. */
async function fill(disk: TestDisk): Promise<void> {
  const { stdout } = await new Deno.Command("df", { args: ["--sync", "--output=avail", "-B1", disk.directory] })
    .output();
  const bytes = Number(new TextDecoder().decode(stdout).split("\n")[1]) - 6 * 2 ** 20;
  const { success } = await new Deno.Command("fallocate", { args: ["-l", String(bytes), ballast(disk)] }).output();
  assert(success);
}

/** Not the agent's, so that it can be removed whatever the agent does. */
function ballast(disk: TestDisk): string {
  return `${disk.directory}/ballast`;
}

async function homeOn(disk: TestDisk): Promise<string> {
  const home = `${disk.directory}/h`;
  await Deno.mkdir(home);
  return home;
}

/** Writes 80 MB in the background. What is written is also summed on its way, so that the disk has no part in that. */
const WRITER = `cat > /dev/shm/writer.sh <<'END'
head -c 80000000 /dev/urandom | tee /root/data | md5sum > /dev/shm/expected
sync && touch /dev/shm/written
END
nohup sh /dev/shm/writer.sh > /dev/null 2>&1 &`;

const WRITTEN = "while [ ! -e /dev/shm/written ]; do sleep 0.05; done";
const SUM_FROM_DISK = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /root/data";

async function stand(client: Client, sandboxId: string): Promise<[string, string, boolean]> {
  const { status, reason, guestStopped } = (await client.getSandbox({ sandboxId })).sandbox!;
  return [status, reason, guestStopped];
}

async function stopped(client: Client, sandboxId: string): Promise<[string, string, boolean]> {
  return await eventually(
    async () => {
      const found = await stand(client, sandboxId);
      return found[2] ? found : undefined;
    },
    "a guest that was stopped",
    120_000,
  );
}

async function goesOn(client: Client, run: Run, sandboxId: string): Promise<void> {
  await eventually(async () => (await stand(client, sandboxId))[2] ? undefined : true, "a guest that goes on");
  await run(sandboxId, WRITTEN);
  const expected = await run(sandboxId, "cat /dev/shm/expected");
  assertEquals(await run(sandboxId, SUM_FROM_DISK), expected);
  // No write has failed for the guest: its file system would be read-only.
  await run(sandboxId, "touch /root/more && sync");
}

async function failureOf(work: Promise<unknown>): Promise<[code: string, hasHint: boolean]> {
  try {
    await work;
    return ["", false];
  } catch (thrown) {
    if (thrown instanceof TorporError) return [thrown.code, thrown.hint !== undefined];
    throw thrown;
  }
}

async function chattr(flag: "+i" | "-i", path: string): Promise<void> {
  const { success } = await new Deno.Command("chattr", { args: [flag, path] }).output();
  assert(success);
}

Deno.test("a guest that fills the host's disk stands still and says so, and goes on complete when there is room", async () => {
  await using disk = await makeTestDisk("ext4", 768);
  await using host = await startTestHostAgent({ home: await homeOn(disk) });
  const { client } = host;
  try {
    const id = await host.create();
    await fill(disk);
    const before = await client.listSandboxes({});
    await host.run(id, WRITER);
    assertEquals(await stopped(client, id), ["running", "no_space", true]);
    const changes = await client.listSandboxes({ epoch: before.epoch, sinceRevision: before.revision });
    assertEquals(changes.sandboxes.map(({ sandboxId, reason }) => [sandboxId, reason]), [[id, "no_space"]]);

    const began = performance.now();
    assertEquals(await failureOf(client.exec({ sandboxId: id, cmd: "true" })), ["no_space", true]);
    assertEquals(await failureOf(client.pauseSandbox({ sandboxId: id })), ["no_space", true]);
    const checkpoint = { sandboxId: id, snapshotId: newId(), keepSandbox: true };
    assertEquals(await failureOf(client.createSnapshot(checkpoint)), ["no_space", true]);
    assertLess(performance.now() - began, 2_000);
    assertEquals(await stand(client, id), ["running", "no_space", true]);

    await Deno.remove(ballast(disk));
    await goesOn(client, host.run, id);
    await client.pauseSandbox({ sandboxId: id });
    await client.resumeSandbox({ sandboxId: id });
    assertEquals(await stand(client, id), ["running", "", false]);
    assertEquals(await host.run(id, SUM_FROM_DISK), await host.run(id, "cat /dev/shm/expected"));
  } finally {
    await host.agent.manager.destroyAll();
  }
});

Deno.test("an agent that is killed while a guest stands still: its successor says so, and lets it go on", async () => {
  await using disk = await makeTestDisk("ext4", 768);
  const home = await homeOn(disk);
  let id: string;
  {
    await using first = await startHostAgentProcess(home);
    const { create, run } = sandboxHelpers(first.client);
    id = await create();
    await fill(disk);
    await run(id, WRITER);
    assertEquals(await stopped(first.client, id), ["running", "no_space", true]);
    await first.end("SIGKILL");
  }
  await using second = await startHostAgentProcess(home);
  const { client } = second;
  try {
    assertEquals(await stand(client, id), ["running", "no_space", true]);
    assertEquals(await failureOf(client.exec({ sandboxId: id, cmd: "true" })), ["no_space", true]);
    await Deno.remove(ballast(disk));
    await goesOn(client, sandboxHelpers(client).run, id);
  } finally {
    await client.destroySandbox({ sandboxId: id });
    await second.end("SIGTERM");
  }
});

Deno.test("a guest that stands still can be deleted; calls that were under way end with the reason before", async () => {
  await using disk = await makeTestDisk("ext4", 768);
  const home = await homeOn(disk);
  await using host = await startTestHostAgent({ home });
  const { client } = host;
  const id = await host.create();
  await fill(disk);
  const call = failureOf(client.exec({ sandboxId: id, cmd: `sh -c '${WRITTEN}'`, timeoutSec: 120 }));
  await host.run(id, WRITER);
  await stopped(client, id);
  assertEquals(await call, ["no_space", true]);
  await client.destroySandbox({ sandboxId: id });
  assertEquals((await client.listSandboxes({})).sandboxes, []);
  assertEquals(await processesWith(home), []);
  assertEquals([...Deno.readDirSync(host.layout.sandboxes)], []);
});

Deno.test("a write that fails for another reason is io_error, tried again, and nothing is lost either", async () => {
  await using disk = await makeTestDisk("ext4", 768);
  await using host = await startTestHostAgent({ home: await homeOn(disk) });
  const { client } = host;
  const id = await host.create();
  const file = host.layout.sandbox(id).disk;
  try {
    // Writes to a file that became immutable fail with EPERM, also by a descriptor that is open.
    await chattr("+i", file);
    await host.run(id, WRITER);
    assertEquals(await stopped(client, id), ["running", "io_error", true]);
    assertEquals(await failureOf(client.exec({ sandboxId: id, cmd: "true" })), ["io_error", true]);
    assertEquals(await failureOf(client.pauseSandbox({ sandboxId: id })), ["io_error", true]);
    await chattr("-i", file);
    await goesOn(client, host.run, id);
  } finally {
    await chattr("-i", file);
    await host.agent.manager.destroyAll();
  }
});

Deno.test("a disk that fails in the middle of a pause: it fails, and the guest goes on with nothing lost", async () => {
  await using disk = await makeTestDisk("ext4", 768);
  let file = "";
  const onStep = async (step: string) => {
    if (step === "pause.stop" && file !== "") await chattr("+i", file);
  };
  await using host = await startTestHostAgent({ home: await homeOn(disk), overrides: { onStep } });
  const { client } = host;
  const id = await host.create();
  file = host.layout.sandbox(id).disk;
  try {
    await host.run(id, WRITER);
    await host.run(id, "while [ ! -s /root/data ]; do sleep 0.05; done");
    // A file that is immutable gets no second name either.
    assertEquals((await failureOf(client.pauseSandbox({ sandboxId: id })))[0], "pause_failed");
    assertEquals(await stopped(client, id), ["running", "io_error", true]);
    await chattr("-i", file);
    await goesOn(client, host.run, id);
  } finally {
    await chattr("-i", file);
    await host.agent.manager.destroyAll();
  }
});
