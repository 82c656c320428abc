import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { processesWith, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";

/**
 * A process in the guest that counts: first in memory, then on disk (with fsync), always in this order. At any one moment the
 * two are equal, or memory is one ahead. Beside it lies memory that is written all the time: a page is wrong when its two
 * halves differ.
 */
const WRITER = `
import mmap, os, time
PAGES = 300
counter = mmap.mmap(os.open("/dev/shm/counter", os.O_RDWR | os.O_CREAT), 0) if os.path.exists("/dev/shm/counter") else None
if counter is None:
    with open("/dev/shm/counter", "wb") as f: f.write(bytes(4096 * (1 + PAGES)))
    counter = mmap.mmap(os.open("/dev/shm/counter", os.O_RDWR), 0)
disk = os.open("/root/counter", os.O_RDWR | os.O_CREAT)
i = int.from_bytes(counter[:8], "little")
while True:
    i += 1
    counter[:8] = i.to_bytes(8, "little")
    os.pwrite(disk, i.to_bytes(8, "little"), 0)
    os.fsync(disk)
    half = (i % 251).to_bytes(1, "little") * 2048
    for page in range(1, PAGES + 1):
        at = page * 4096
        counter[at:at + 2048] = half
        counter[at + 2048:at + 4096] = half
    time.sleep(0.005)
`;

/** Prints the counter in memory, that on disk (dropped from the cache, so read from the disk) and the wrong pages. */
const LOOK = `
import os
memory = open("/dev/shm/counter", "rb").read()
fd = os.open("/root/counter", os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
pages = [memory[at:at + 4096] for at in range(4096, len(memory), 4096)]
# One page is being written at any time.
torn = sum(len(set(page)) > 1 for page in pages)
print(int.from_bytes(memory[:8], "little"), int.from_bytes(os.pread(fd, 8, 0), "little"), max(torn - 1, 0))
`;

const START = `
cat > /root/writer.py <<'END'
${WRITER}
END
cat > /root/look.py <<'END'
${LOOK}
END
head -c 6000000 /dev/urandom > /dev/shm/random
head -c 2000000 /dev/urandom > /root/on-disk
sync
nohup python3 /root/writer.py > /root/writer.log 2>&1 &
echo $! > /dev/shm/pid
while [ ! -s /root/counter ]; do sleep 0.05; done
md5sum /dev/shm/random /root/on-disk | md5sum`;

const SUMS = "md5sum /dev/shm/random /root/on-disk | md5sum";
const STOP = "kill -STOP $(cat /dev/shm/pid)";
const LOOK_AT_REST = `${STOP}; python3 /root/look.py; kill -CONT $(cat /dev/shm/pid)`;

interface Look {
  memory: number;
  disk: number;
  torn: number;
}

/** Looks at the counters with the writer stopped: after a resume it may have gone on from the moment of the snapshot. */
async function look(host: TestHostAgent, id: string): Promise<Look> {
  const [memory, disk, torn] = (await host.run(id, LOOK_AT_REST)).split(" ").map(Number);
  return { memory: memory!, disk: disk!, torn: torn! };
}

async function checkpoint(host: TestHostAgent, sandboxId: string, snapshotId = newId()) {
  const { snapshot, stoppedUs } = await host.client.createSnapshot({
    sandboxId,
    snapshotId,
    keepSandbox: true,
    name: "here",
  });
  return { snapshot: snapshot!, stoppedUs: Number(stoppedUs) };
}

async function spawn(host: TestHostAgent, snapshotId: string): Promise<string> {
  return (await host.client.createSandbox({ sandboxId: newId(), snapshotId })).sandboxId;
}

function requireOneMoment({ memory, disk, torn }: Look): void {
  assertGreater(disk, 0);
  // The writer that goes on from the checkpoint keeps the order: it can never be found with its disk ahead.
  assert(memory === disk || memory === disk + 1, `memory is at ${memory}, the disk at ${disk}`);
  assertEquals(torn, 0);
}

for (const tracking of [undefined, "compare"] as const) {
  const how = tracking ? ` (${tracking})` : "";
  Deno.test(`a checkpoint is of one moment, and the source goes on${how}`, async (t) => {
    await using host = await startTestHostAgent({ overrides: tracking ? { tracking } : {} });
    const id = await host.create();
    const sums = await host.run(id, START);
    // First from a booted VM, then from one whose parent is that checkpoint, then from a resumed one.
    for (const origin of ["booted", "checkpointed", "resumed"]) {
      await t.step(origin, async () => {
        const before = await look(host, id);
        const { snapshot, stoppedUs } = await checkpoint(host, id);
        console.log(`  ${origin}: stopped ${stoppedUs} us, ${snapshot.pagesDirty} pages`);
        assertGreater(stoppedUs, 0);
        // Stored bytes, not pages that changed: those that the guest gave back to the balloon are only marked as zero.
        if (origin !== "booted") assertLess(snapshot.memoryBytes, 8000n * 4096n);
        const after = await look(host, id);
        assertGreater(after.memory, before.memory);

        const child = await spawn(host, snapshot.snapshotId);
        const found = await look(host, child);
        requireOneMoment(found);
        assertGreater(found.memory, before.memory - 1);
        assertEquals(await host.run(child, SUMS), sums);
        assertEquals(await host.run(child, "cat /root/writer.log"), "");
        await host.client.destroySandbox({ sandboxId: child });

        // The checkpoint is the parent of the next generation, which stores only what came after it.
        const { snapshot: generation } = await host.client.pauseSandbox({ sandboxId: id });
        assertLess(generation!.memoryBytes, 8000n * 4096n);
        assertGreater(generation!.generation, snapshot.generation);
        await host.client.resumeSandbox({ sandboxId: id });
        const resumed = await look(host, id);
        requireOneMoment(resumed);
        assertGreater(resumed.memory, after.memory - 1);
        assertEquals(await host.run(id, SUMS), sums);
      });
    }
    assertEquals([...Deno.readDirSync(host.layout.staging)], []);
  });
}

Deno.test("what the guest frees and zeroes after a checkpoint is not what it was before", async (t) => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.run(id, "head -c 12000000 /dev/urandom > /dev/shm/a; head -c 4000000 /dev/urandom > /dev/shm/b");
  for (const origin of ["booted", "resumed"]) {
    await t.step(origin, async () => {
      await checkpoint(host, id);
      const sum = await host.run(
        id,
        `dd if=/dev/zero of=/dev/shm/a bs=4096 count=800 conv=notrunc 2>/dev/null
         rm /dev/shm/b; head -c 4000000 /dev/urandom > /dev/shm/c; rm /dev/shm/c
         head -c 3000000 /dev/urandom > /dev/shm/b
         md5sum /dev/shm/a /dev/shm/b`,
      );
      await checkpoint(host, id);
      assertEquals(await host.run(id, "md5sum /dev/shm/a /dev/shm/b"), sum);
      await host.client.pauseSandbox({ sandboxId: id });
      await host.client.resumeSandbox({ sandboxId: id });
      assertEquals(await host.run(id, "md5sum /dev/shm/a /dev/shm/b"), sum);
    });
  }
});

const STEPS = [
  "checkpoint.copy_disk",
  "checkpoint.copy_memory",
  "checkpoint.stop",
  "checkpoint.disk",
  "checkpoint.device_state",
  "checkpoint.last_round",
  "checkpoint.go_on",
  "checkpoint.commit",
];

Deno.test("a checkpoint that fails at any step leaves the source running, and the next pause is right", async (t) => {
  let failAt = "";
  await using host = await startTestHostAgent({
    overrides: {
      onStep: (step) => {
        if (step === failAt) throw new Deno.errors.PermissionDenied("injected");
      },
    },
  });
  const id = await host.create();
  const sums = await host.run(id, START);
  for (const origin of ["booted", "resumed"]) {
    let counted = await look(host, id);
    for (const step of STEPS) {
      await t.step(`${origin}: ${step}`, async () => {
        failAt = step;
        const error = await assertRejects(() => checkpoint(host, id), TorporError);
        assertEquals(error.code, "snapshot_failed");
        failAt = "";
        assertEquals([...Deno.readDirSync(host.layout.staging)], []);
        const now = await look(host, id);
        assertGreater(now.memory, counted.memory);
        counted = now;
      });
    }
    await t.step(`${origin}: the next pause has every page`, async () => {
      await host.client.pauseSandbox({ sandboxId: id });
      await host.client.resumeSandbox({ sandboxId: id });
      const resumed = await look(host, id);
      requireOneMoment(resumed);
      assertGreater(resumed.memory, counted.memory - 1);
      assertEquals(await host.run(id, SUMS), sums);
    });
    await t.step(`${origin}: so has the next checkpoint`, async () => {
      const child = await spawn(host, (await checkpoint(host, id)).snapshot.snapshotId);
      requireOneMoment(await look(host, child));
      assertEquals(await host.run(child, SUMS), sums);
      await host.client.destroySandbox({ sandboxId: child });
    });
  }
  const { sandboxes } = await host.client.listSandboxes({});
  assertEquals(sandboxes.map(({ status }) => status), ["running"]);
  assertEquals((await processesWith(host.layout.home)).length, 1);
});
