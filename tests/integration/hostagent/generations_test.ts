import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { pagemapScanSupported } from "@torpor/ffi";
import { startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";

/**
 * Leaves in the guest: a process that counts (and waits without starting another one) into a file that it keeps open, random bytes in tmpfs and on disk, and a
 * file of zeros (a zero page that is no hole must come back as zeros, not as what was there before).
 */
const PREPARE = `
  cat > /root/count.sh <<'END'
  exec 9>>/dev/shm/counted 8<> <(:)
  i=0
  while true; do i=$((i+1)); echo $i >&9; read -t 0.05 -u 8; done
END
  nohup bash /root/count.sh >/dev/null 2>&1 &
  echo $! > /dev/shm/pid
  head -c 20000000 /dev/urandom > /dev/shm/random
  head -c 8000000 /dev/urandom > /root/on-disk
  head -c 4000000 /dev/urandom > /dev/shm/rewritten
  sync
  md5sum /dev/shm/random /root/on-disk | md5sum`;

const CHECK = `md5sum /dev/shm/random /root/on-disk | md5sum`;

Deno.test("three generations keep memory, processes, open files and disk", async (t) => {
  await using host = await startTestHostAgent();
  assert(pagemapScanSupported(), "this kernel cannot track written pages; the comparison is tested below");
  await keepsEverything(t, host);
});

Deno.test("so they do on a kernel that cannot track written pages", async (t) => {
  await using host = await startTestHostAgent({ overrides: { tracking: "compare" } });
  await keepsEverything(t, host);
});

async function keepsEverything(t: Deno.TestContext, host: TestHostAgent): Promise<void> {
  const id = await host.create();
  const checksum = await host.run(id, PREPARE);
  const pid = await host.run(id, "cat /dev/shm/pid");
  let counted = await countOf(host, id);
  let rewritten = await host.run(id, "md5sum < /dev/shm/rewritten");
  let firstBytes = 0n;

  for (let generation = 1; generation <= 3; generation++) {
    await t.step(`generation ${generation}`, async () => {
      const { snapshot } = await host.client.pauseSandbox({ sandboxId: id });
      assertEquals(snapshot?.generation, generation);
      assertEquals((await host.client.getSandbox({ sandboxId: id })).sandbox?.status, "paused");
      if (generation === 1) firstBytes = snapshot!.memoryBytes;
      // Only what changed is stored again.
      else assertLess(snapshot!.memoryBytes, firstBytes / 2n);

      await host.client.resumeSandbox({ sandboxId: id });
      const stats = await host.client.getMemoryStats({ sandboxId: id });
      assert(stats.lazy);
      assertGreater(stats.faults, 0n);
      assertLess(stats.dataPagesServed, snapshot!.pagesData);

      assertEquals(await host.run(id, CHECK), checksum);
      assertEquals(await host.run(id, "md5sum < /dev/shm/rewritten"), rewritten);
      assertEquals(await host.run(id, "cat /dev/shm/pid; kill -0 $(cat /dev/shm/pid)"), pid);
      const later = await countOf(host, id);
      assertGreater(later, counted);
      counted = later;
      // For the next generation: pages that turn to zeros, pages with new bytes, pages that are given back.
      rewritten = await host.run(
        id,
        `dd if=/dev/zero of=/dev/shm/rewritten bs=4096 count=400 conv=notrunc 2>/dev/null
         dd if=/dev/urandom of=/dev/shm/rewritten bs=4096 count=50 seek=500 conv=notrunc 2>/dev/null
         head -c 3000000 /dev/urandom > /dev/shm/gone; rm /dev/shm/gone
         md5sum < /dev/shm/rewritten`,
      );
    });
  }
}

async function countOf(host: TestHostAgent, id: string): Promise<number> {
  return Number(await host.run(id, "tail -n 1 /dev/shm/counted"));
}

Deno.test("a numbered count has no gap and no repetition over a pause", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.run(id, PREPARE);
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  const numbers = (await host.run(id, "cat /dev/shm/counted")).split("\n").map(Number);
  assertEquals(numbers, numbers.map((_, index) => index + 1));
});

Deno.test("two sandboxes pause and resume at once without seeing each other", async () => {
  await using host = await startTestHostAgent();
  const ids = await Promise.all([host.create(), host.create()]);
  const both = async <T>(work: (id: string, index: number) => Promise<T>) => await Promise.all(ids.map(work));
  await both((id, index) => host.run(id, `echo mark-${index} > /dev/shm/mark; echo mark-${index} > /root/mark; sync`));
  for (let round = 0; round < 2; round++) {
    await both((id) => host.client.pauseSandbox({ sandboxId: id }));
    await both((id) => host.client.resumeSandbox({ sandboxId: id }));
    assertEquals(await both((id) => host.run(id, "cat /dev/shm/mark /root/mark")), [
      "mark-0\nmark-0",
      "mark-1\nmark-1",
    ]);
  }
});

Deno.test("the clock is right after a resume", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  const guestMs = Number(await host.run(id, "date +%s%3N"));
  assertLess(Math.abs(Date.now() - guestMs), 5_000);
});

Deno.test("paused, a sandbox holds no process and no live disk, and its parents hold only data in use", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.client.pauseSandbox({ sandboxId: id });
  await host.client.resumeSandbox({ sandboxId: id });
  const { snapshot } = await host.client.pauseSandbox({ sandboxId: id });
  const names = (directory: string) => [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
  const paths = host.layout.sandbox(id);
  assert(!names(paths.directory).includes("disk.raw"));
  assertEquals(names(host.layout.staging), []);
  const parents = names(host.layout.snapshots).filter((name) => name !== snapshot!.snapshotId);
  assertEquals(parents.map((parent) => names(`${host.layout.snapshots}/${parent}`)), [["memory.data", "origin.json"]]);
  await host.client.destroySandbox({ sandboxId: id });
  assertEquals([names(host.layout.snapshots), names(host.layout.sandboxes)], [[], []]);
});
