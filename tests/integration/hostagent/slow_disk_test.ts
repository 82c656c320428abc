// A disk that does not answer for a while: every write that must reach it waits in the kernel until the test lets it go.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import {
  eventually,
  makeTestHome,
  processesWith,
  sandboxHelpers,
  startHostAgentProcess,
  startTestHostAgent,
  type TestHostAgent,
} from "@torpor/testing/hostagent";
import { makeStallableDisk } from "@torpor/testing/test_disk";

/** How long the caller of a pause waits that cannot end. */
const PATIENCE_MS = 2_000;
const FILL = "head -c 6000000 /dev/urandom > /dev/shm/random; head -c 3000000 /dev/urandom > /root/data; sync";
const SUMS = "echo 3 > /proc/sys/vm/drop_caches; cat /dev/shm/random /root/data | md5sum";

/** A host agent on a disk that stops answering when a step begins. */
async function withStalls(work: (host: TestHostAgent, stall: Stalls) => Promise<void>): Promise<void> {
  await using disk = await makeStallableDisk(640);
  const home = `${disk.directory}/h`;
  await Deno.mkdir(home);
  const stalls: Stalls = { at: "", reached: new Map(), go: () => disk.go() };
  const onStep = async (step: string) => {
    if (step === stalls.at) {
      stalls.at = "";
      await disk.stall();
    }
    stalls.reached.get(step)?.resolve();
  };
  await using host = await startTestHostAgent({ home, overrides: { onStep } });
  try {
    await work(host, stalls);
  } finally {
    stalls.at = "";
    await disk.go();
    await host.agent.manager.destroyAll();
  }
}

interface Stalls {
  /** The step; once. */
  at: string;
  /** Resolved when these steps begin. */
  reached: Map<string, PromiseWithResolvers<void>>;
  go(): Promise<void>;
}

async function statusOf(host: TestHostAgent, sandboxId: string): Promise<string> {
  return (await host.client.getSandbox({ sandboxId })).sandbox!.status;
}

Deno.test("a pause waits for a slow disk as long as it takes, its caller does not; no byte is wrong", async (t) => {
  await withStalls(async (host, stalls) => {
    const sandboxId = await host.create();
    await host.run(sandboxId, FILL);
    const sums = await host.run(sandboxId, SUMS);
    for (const step of ["pause.device_state", "pause.export_memory", "pause.disk", "pause.commit"]) {
      await t.step(step, async () => {
        const stalled = Promise.withResolvers<void>();
        stalls.reached.set(step, stalled);
        stalls.at = step;
        const request = { sandboxId, operationId: newId() };
        const late = await assertRejects(
          () => host.client.pauseSandbox(request, { timeoutMs: PATIENCE_MS }),
          TorporError,
        );
        assertEquals(late.code, "deadline_exceeded");
        await stalled.promise;
        assertEquals(await statusOf(host, sandboxId), "pausing");
        await stalls.go();
        // The same operation is joined, not begun again.
        await host.client.pauseSandbox(request);
        assertEquals(await statusOf(host, sandboxId), "paused");
        await host.client.resumeSandbox({ sandboxId });
        assertEquals(await host.run(sandboxId, SUMS), sums);
      });
    }
  });
});

Deno.test("the stop of a checkpoint waits for no slow disk, only its commit does", async () => {
  await withStalls(async (host, stalls) => {
    const sandboxId = await host.create();
    await host.run(sandboxId, FILL);
    const sums = await host.run(sandboxId, SUMS);
    await host.run(sandboxId, "echo before > /dev/shm/mark");
    const committing = Promise.withResolvers<void>();
    stalls.reached.set("checkpoint.commit", committing);
    stalls.at = "checkpoint.stop";
    const taken = host.client.createSnapshot({ sandboxId, snapshotId: newId(), keepSandbox: true });
    await Promise.race([committing.promise, taken]);
    // The guest runs again while nothing has reached the disk.
    assertEquals(await host.run(sandboxId, "cat /dev/shm/mark; echo after > /dev/shm/mark"), "before");
    assertEquals(await statusOf(host, sandboxId), "snapshotting");
    assertEquals([...Deno.readDirSync(host.layout.snapshots)], []);
    await stalls.go();
    const { snapshotId } = (await taken).snapshot!;
    const { sandboxId: child } = await host.client.createSandbox({ sandboxId: newId(), snapshotId });
    assertEquals(await host.run(child, "cat /dev/shm/mark"), "before");
    assertEquals(await host.run(child, SUMS), sums);
    assertEquals(await host.run(sandboxId, "cat /dev/shm/mark"), "after");
    assertEquals(await host.run(sandboxId, SUMS), sums);
  });
});

Deno.test("a resume needs nothing to be on a slow disk, or waits for it; no byte is wrong", async (t) => {
  await withStalls(async (host, stalls) => {
    const sandboxId = await host.create();
    await host.run(sandboxId, FILL);
    const sums = await host.run(sandboxId, SUMS);
    for (const step of ["resume.verify", "resume.disk", "resume.start_vcpus"]) {
      await t.step(step, async () => {
        await host.client.pauseSandbox({ sandboxId });
        const stalled = Promise.withResolvers<void>();
        stalls.reached.set(step, stalled);
        stalls.at = step;
        const request = { sandboxId, operationId: newId() };
        // It syncs nothing itself, but the file system's journal may be held up by what somebody else syncs.
        const outcome = await host.client.resumeSandbox(request, { timeoutMs: PATIENCE_MS })
          .then(() => "resumed", (error) => error.code);
        assert(["resumed", "deadline_exceeded"].includes(outcome), outcome);
        await stalled.promise;
        assertEquals(await statusOf(host, sandboxId), outcome === "resumed" ? "running" : "resuming");
        await stalls.go();
        await host.client.resumeSandbox(request);
        assertEquals(await host.run(sandboxId, SUMS), sums);
      });
    }
  });
});

for (const step of ["pause.export_memory", "pause.commit"]) {
  Deno.test(`an agent killed while ${step} waits for the disk: the sandbox runs on with every byte`, async () => {
    await using disk = await makeStallableDisk(640);
    const home = `${disk.directory}/h`;
    await Deno.mkdir(home);
    const gate = await makeTestHome();
    const sandboxId = newId();
    try {
      await new Deno.Command("mkfifo", { args: [`${gate}/reached`, `${gate}/go`] }).output();
      let sums = "";
      {
        await using agent = await startHostAgentProcess(home, { waitAt: { step, gate } });
        const { run } = sandboxHelpers(agent.client);
        await agent.client.createSandbox({ sandboxId, vcpus: 1, memoryMb: 192, diskSizeMb: 512 });
        await run(sandboxId, FILL);
        sums = await run(sandboxId, SUMS);
        const pausing = agent.client.pauseSandbox({ sandboxId }).catch(() => {});
        assertEquals(await Deno.readTextFile(`${gate}/reached`), step);
        await disk.stall();
        await Deno.writeTextFile(`${gate}/go`, "go");
        await eventually(async () => await inFsync(agent.pid) ? true : undefined, "the agent in fsync");
        const ended = agent.end("SIGKILL");
        await disk.go();
        await Promise.all([ended, pausing]);
      }
      await using agent = await startHostAgentProcess(home);
      const { run } = sandboxHelpers(agent.client);
      try {
        assertEquals((await agent.client.getSandbox({ sandboxId })).sandbox?.status, "running");
        assertEquals([...Deno.readDirSync(`${home}/staging`)], []);
        assertEquals([...Deno.readDirSync(`${home}/snapshots`)], []);
        assertEquals(await run(sandboxId, SUMS), sums);
        await agent.client.pauseSandbox({ sandboxId });
        await agent.client.resumeSandbox({ sandboxId });
        assertEquals(await run(sandboxId, SUMS), sums);
      } finally {
        await agent.client.terminate({});
        await agent.ended;
      }
      assertEquals(await processesWith(home), []);
    } finally {
      await Deno.remove(gate, { recursive: true });
    }
  });
}

/** Whether a thread is in fsync (system call 74 on x86_64) or fdatasync (75). */
async function inFsync(pid: number): Promise<boolean> {
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const call = await Deno.readTextFile(`/proc/${pid}/task/${name}/syscall`);
    if (call.startsWith("74 ") || call.startsWith("75 ")) return true;
  }
  return false;
}
