// The disk of a checkpoint: by shared blocks where the file system can, and on a disk without room.
import { assert, assertEquals, assertLess } from "@std/assert";
import { newId } from "@torpor/ids";
import { startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { makeTestDisk, type TestDisk } from "@torpor/testing/test_disk";

/** A host agent whose data directory is on a disk of its own, which can be unmounted afterwards. */
async function withAgentOn(disk: TestDisk, work: (host: TestHostAgent, home: string) => Promise<void>): Promise<void> {
  // Not the mount point itself: a new ext4 has a directory there that is not the agent's.
  const home = `${disk.directory}/h`;
  await Deno.mkdir(home);
  await using host = await startTestHostAgent({ home });
  try {
    await work(host, home);
  } finally {
    await host.agent.manager.destroyAll();
  }
}

async function usedBytes(path: string): Promise<number> {
  const { stdout } = await new Deno.Command("df", { args: ["--sync", "--output=used", "-B1", path] }).output();
  return Number(new TextDecoder().decode(stdout).split("\n")[1]);
}

async function allocate(path: string, sizeMb: number): Promise<void> {
  const { success } = await new Deno.Command("fallocate", { args: ["-l", `${sizeMb}M`, path] }).output();
  assert(success);
}

const SUM_FROM_DISK = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /root/data";

for (const fileSystem of ["xfs", "btrfs"] as const) {
  Deno.test(`a checkpoint's disk shares blocks with the live one on ${fileSystem}, and sees none of its writes`, async () => {
    await using disk = await makeTestDisk(fileSystem, 1024);
    await withAgentOn(disk, async (host, home) => {
      const id = await host.create();
      const sum = await host.run(id, "head -c 60000000 /dev/urandom > /root/data; sync; md5sum < /root/data");
      const before = await usedBytes(home);
      const request = { sandboxId: id, snapshotId: newId(), keepSandbox: true };
      const { snapshot, stoppedUs } = await host.client.createSnapshot(request);
      console.log(`  ${fileSystem}: stopped ${stoppedUs} us`);
      // The memory is new; of the 60 MB on the disk next to nothing is.
      assertLess(await usedBytes(home) - before - Number(snapshot!.memoryBytes), 20_000_000);
      const changed = await host.run(
        id,
        `dd if=/dev/urandom of=/root/data bs=1M count=20 conv=notrunc,fsync 2>/dev/null; ${SUM_FROM_DISK}`,
      );
      const { snapshotId } = snapshot!;
      const { sandboxId: child } = await host.client.createSandbox({ sandboxId: newId(), snapshotId });
      assertEquals(await host.run(child, SUM_FROM_DISK), sum);
      assertEquals(await host.run(id, SUM_FROM_DISK), changed);
    });
  });
}

/** Writes all the time, with fsync, until it is told that it is enough; ends in silence when a write fails. */
const WRITER = `
cat > /root/writer.sh <<'END'
i=0
while [ ! -e /dev/shm/enough ]; do
  dd if=/dev/urandom of=/root/more bs=64k count=1 seek=$((i % 200)) conv=notrunc,fsync 2>/dev/null || exit 1
  i=$((i + 1))
done
echo fine > /dev/shm/end
END
nohup sh /root/writer.sh > /dev/null 2>&1 &
while [ ! -s /root/more ]; do sleep 0.05; done`;

Deno.test("a disk that fills while a checkpoint copies another is no_space; the sandbox writes on, nothing is left", async () => {
  await using disk = await makeTestDisk("ext4", 768);
  await withAgentOn(disk, async (host, home) => {
    const sandboxId = await host.create();
    await allocate(`${home}/ballast`, 512);
    const sum = await host.run(sandboxId, "head -c 110000000 /dev/urandom > /root/data; sync; md5sum < /root/data");
    // The VMM itself may find the disk full: it stops its guest then, until there is room.
    await host.run(sandboxId, WRITER);
    for (let attempt = 1; attempt <= 3; attempt++) {
      const request = { sandboxId, snapshotId: newId(), keepSandbox: true };
      const failure = await host.client.createSnapshot(request).then(() => undefined, (error) => error);
      assertEquals([failure?.code, typeof failure?.hint], ["no_space", "string"]);
      const { sandbox } = await host.client.getSandbox({ sandboxId });
      assertEquals([sandbox?.status, sandbox?.reason], ["running", ""]);
      assertEquals([...Deno.readDirSync(host.layout.staging)], []);
      assertEquals([...Deno.readDirSync(host.layout.snapshots)], []);
      assertEquals(await host.run(sandboxId, SUM_FROM_DISK), sum);
    }
    const end = "touch /dev/shm/enough; while [ ! -e /dev/shm/end ]; do sleep 0.05; done; cat /dev/shm/end";
    assertEquals(await host.run(sandboxId, end), "fine");
    // With room the next one succeeds: nothing of those that failed is in its way.
    await Deno.remove(`${home}/ballast`);
    await host.client.createSnapshot({ sandboxId, snapshotId: newId(), keepSandbox: true });
  });
});
