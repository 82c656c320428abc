// A host whose disk fills up, with real VMs: what cannot fit is refused before anything is stopped, everybody is where the
// last answer says, and when there is room again all goes on and nothing has leaked.
import { assert, assertEquals, assertLess } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { startTestHostAgent, type TestHostAgent, type TestHostAgentOptions } from "@torpor/testing/hostagent";
import { makeTestDisk } from "@torpor/testing/test_disk";

const RESERVE_MB = 256;

/** A small disk, of which everything but some MiB can be taken and given back. */
interface SmallDisk extends AsyncDisposable {
  home: string;
  usedBytes(): Promise<number>;
  /** Leaves so much; 0: not a byte, also of what the file system keeps for root. */
  leave(freeMb: number): Promise<void>;
}

async function makeSmallDisk(sizeMb: number): Promise<SmallDisk> {
  const disk = await makeTestDisk("ext4", sizeMb);
  const [home, ballast] = [`${disk.directory}/h`, `${disk.directory}/ballast`];
  await Deno.mkdir(home);
  const df = async (column: string) => {
    const { stdout } = await new Deno.Command("df", { args: ["--sync", `--output=${column}`, "-B1", home] }).output();
    return Number(new TextDecoder().decode(stdout).split("\n")[1]);
  };
  return {
    home,
    usedBytes: () => df("used"),
    async leave(freeMb) {
      await Deno.remove(ballast).catch(() => {});
      if (freeMb === 0) return await takeEverything(ballast);
      const bytes = Math.floor(await df("avail") - freeMb * 2 ** 20);
      if (bytes <= 0) return;
      const { success } = await new Deno.Command("fallocate", { args: ["-l", String(bytes), ballast] }).output();
      assert(success);
    },
    [Symbol.asyncDispose]: () => disk[Symbol.asyncDispose](),
  };
}

/** Writes until nothing fits any more, from large pieces to small ones. */
async function takeEverything(path: string): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  for (let bytes = 2 ** 24; bytes >= 4096; bytes /= 16) {
    const piece = new Uint8Array(bytes).fill(1);
    try {
      for (;;) await file.write(piece);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
    }
  }
  await file.sync();
}

async function codeOf(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "";
  } catch (thrown) {
    if (thrown instanceof TorporError) return thrown.code;
    throw thrown;
  }
}

async function stand(host: TestHostAgent, sandboxId: string): Promise<[status: string, reason: string]> {
  const { sandbox } = await host.client.getSandbox({ sandboxId });
  return [sandbox!.status, sandbox!.reason];
}

/** With an agent on this disk. What runs there after a failure would hold the disk. */
async function withAgentOn(
  disk: SmallDisk,
  options: TestHostAgentOptions,
  work: (host: TestHostAgent) => Promise<void>,
): Promise<void> {
  await using host = await startTestHostAgent({ home: disk.home, ...options });
  try {
    await work(host);
  } catch (error) {
    await disk.leave(1_000_000);
    await host.agent.manager.destroyAll();
    throw error;
  }
}

async function filesIn(directory: string): Promise<string[]> {
  return await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
}

Deno.test("at full disk nobody is stopped in vain; with room again all goes on, and nothing leaks", async () => {
  await using disk = await makeSmallDisk(1500);
  const steps: string[] = [];
  const overrides = { onStep: (step: string) => void steps.push(step) };
  const options = { diskReserveMb: RESERVE_MB, overrides };
  await withAgentOn(disk, options, async (host) => {
    const { client } = host;
    const before = await disk.usedBytes();
    const [running, sleeper] = [await host.create(), await host.create()];
    await host.run(running, "head -c 20000000 /dev/urandom > /dev/shm/data");
    const sum = await host.run(running, "md5sum < /dev/shm/data");
    await host.run(sleeper, "head -c 8000000 /dev/urandom > /root/data; sync");
    const diskSum = await host.run(sleeper, "md5sum < /root/data");
    await client.pauseSandbox({ sandboxId: sleeper });

    // The reserve is in use: nothing new, but what runs can be paused, and what is paused can be kept.
    await disk.leave(RESERVE_MB - 40);
    assertEquals(await codeOf(() => host.create()), "no_space");
    const checkpoint = { sandboxId: running, snapshotId: newId(), keepSandbox: true };
    assertEquals(await codeOf(() => client.createSnapshot(checkpoint)), "no_space");
    assertEquals(await stand(host, running), ["running", ""]);
    const kept = newId();
    await client.createSnapshot({ sandboxId: sleeper, snapshotId: kept, keepSandbox: true });
    const spawn = { sandboxId: newId(), snapshotId: kept };
    assertEquals(await codeOf(() => client.createSandbox(spawn)), "no_space");
    assertEquals(await codeOf(() => client.resumeSandbox({ sandboxId: sleeper })), "no_space");
    assertEquals((await stand(host, sleeper))[0], "paused");
    await client.pauseSandbox({ sandboxId: running });
    assertEquals(await stand(host, running), ["paused", ""]);

    // Nothing is left at all: not even a pause, and the guest is not stopped for finding that out.
    await disk.leave(RESERVE_MB + 200);
    await client.resumeSandbox({ sandboxId: running });
    assertEquals(await host.run(running, "md5sum < /dev/shm/data"), sum);
    await host.run(running, "head -c 30000000 /dev/urandom > /dev/shm/more");
    const moreSum = await host.run(running, "md5sum < /dev/shm/more");
    await disk.leave(4);
    steps.length = 0;
    assertEquals(await codeOf(() => client.pauseSandbox({ sandboxId: running })), "no_space");
    assertEquals(steps, []);
    assertEquals(await host.run(running, "md5sum < /dev/shm/more"), moreSum);
    await disk.leave(0);
    assertEquals(await codeOf(() => client.pauseSandbox({ sandboxId: running })), "no_space");
    assertEquals(await codeOf(() => host.create()), "no_space");
    assertEquals(await stand(host, running), ["running", "no_space"]);
    await client.collectSnapshots({});
    await client.deleteSnapshot({ snapshotId: kept });
    assertEquals((await client.listSnapshots({})).snapshots, []);

    await disk.leave(1_000_000);
    await client.pauseSandbox({ sandboxId: running });
    for (const sandboxId of [running, sleeper]) await client.resumeSandbox({ sandboxId });
    assertEquals(await host.run(running, "md5sum < /dev/shm/data; md5sum < /dev/shm/more"), `${sum}\n${moreSum}`);
    assertEquals(await host.run(sleeper, "md5sum < /root/data"), diskSum);
    for (const sandboxId of [running, sleeper]) await client.destroySandbox({ sandboxId });
    await client.collectSnapshots({});
    for (const name of ["sandboxes", "snapshots", "staging"]) assertEquals(await filesIn(`${disk.home}/${name}`), []);
    assertLess(await disk.usedBytes() - before, 1_000_000);
  });
});

Deno.test("a disk that fills up in the middle: the step that meets it fails, and all is as before", async () => {
  await using disk = await makeSmallDisk(1200);
  let fatal = "";
  const onStep = async (step: string) => {
    if (step === fatal) await disk.leave(0);
  };
  await withAgentOn(disk, { overrides: { onStep } }, async (host) => {
    const { client } = host;
    const id = await host.create();
    const write = "head -c 20000000 /dev/urandom > /dev/shm/data; md5sum < /dev/shm/data";
    for (const step of ["pause.device_state", "pause.export_memory", "pause.commit"]) {
      const sum = await host.run(id, write);
      fatal = step;
      assertEquals(await codeOf(() => client.pauseSandbox({ sandboxId: id })), "no_space", step);
      assertEquals((await stand(host, id))[0], "running");
      assertEquals(await host.run(id, "md5sum < /dev/shm/data"), sum);
      assertEquals(await filesIn(host.layout.staging), []);
      await disk.leave(1_000_000);
    }
    fatal = "";
    const sum = await host.run(id, write);
    await client.pauseSandbox({ sandboxId: id });
    fatal = "resume.disk";
    assertEquals(await codeOf(() => client.resumeSandbox({ sandboxId: id })), "no_space");
    assertEquals((await stand(host, id))[0], "paused");
    fatal = "";
    await disk.leave(1_000_000);
    await client.resumeSandbox({ sandboxId: id });
    assertEquals(await host.run(id, "md5sum < /dev/shm/data"), sum);
    await client.destroySandbox({ sandboxId: id });
  });
});

Deno.test("an agent starts on a full disk: it knows its sandboxes, and can delete", async () => {
  await using disk = await makeSmallDisk(1200);
  const ids: string[] = [];
  await withAgentOn(disk, {}, async (host) => {
    for (let i = 0; i < 2; i++) ids.push(await host.create());
    for (const sandboxId of ids) await host.client.pauseSandbox({ sandboxId });
  });
  await disk.leave(0);
  await withAgentOn(disk, { diskReserveMb: RESERVE_MB }, async (host) => {
    for (const id of ids) assertEquals((await stand(host, id))[0], "paused");
    assertEquals(await codeOf(() => host.client.resumeSandbox({ sandboxId: ids[0]! })), "no_space");
    await host.client.destroySandbox({ sandboxId: ids[1]! });
    await disk.leave(1_000_000);
    await host.client.resumeSandbox({ sandboxId: ids[0]! });
    assertEquals(await host.run(ids[0]!, "echo alive"), "alive");
    await host.agent.manager.destroyAll();
  });
});
