import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { extentsOf, PAGE_BYTES, ZERO_SOURCE } from "@torpor/snapshot";
import { eventually, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { verifySnapshot } from "../../../services/hostagent/snapshot/committed.ts";

const MIB = 2 ** 20;
/** Stands at the begin of each page of the file that is freed; nothing else in the guest has it. */
const MARK = "torpor-secret-of-a-freed-page-";
const MARKED_MB = 48;
const RECLAIM = { syncMs: 10_000, dropCachesMs: 10_000, compactMemoryMs: 20_000 };

/** Fills a file in memory with pages that begin with the mark, the rest random. Put together, so that no copy of a page stays. */
const FILL = `python3 -c '
import os
mark = b"-".join([b"torpor", b"secret", b"of", b"a", b"freed", b"page", b""])
with open("/dev/shm/marked", "wb", buffering=0) as file:
    for page in range(${MARKED_MB * 256}):
        file.write(mark + os.urandom(4096 - len(mark)))'`;

function residentBytes(host: TestHostAgent, id: string): number {
  return host.agent.manager.get(id).vm!.memory.pagesResident * PAGE_BYTES;
}

/** How many pages of a snapshot's memory, in whatever generation they are stored, begin with the mark. */
async function markedPages(host: TestHostAgent, snapshotId: string): Promise<number> {
  const { table } = await verifySnapshot(host.layout, snapshotId);
  const wanted = new TextEncoder().encode(MARK);
  using opened = new DisposableStack();
  const files = table.sources.map((source) => opened.use(Deno.openSync(host.layout.snapshot(source).memoryData)));
  const head = new Uint8Array(wanted.length);
  let marked = 0;
  for (const { length, source, sourceOffset } of extentsOf(table)) {
    if (source === ZERO_SOURCE) continue;
    for (let at = 0; at < length; at += PAGE_BYTES) {
      files[source]!.seekSync(sourceOffset + at, Deno.SeekMode.Start);
      files[source]!.readSync(head);
      if (head.every((byte, index) => byte === wanted[index])) marked++;
    }
  }
  return marked;
}

Deno.test("what a booted guest frees leaves the host", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.run(id, FILL);
  const filled = residentBytes(host, id);
  await host.run(id, "rm /dev/shm/marked");
  await eventually(
    () => Promise.resolve(residentBytes(host, id) < filled - MARKED_MB * MIB * 0.8 || undefined),
    "less resident memory",
  );
});

Deno.test("a pause that reclaims stores less, and none of it is lost", async () => {
  await using host = await startTestHostAgent();
  const sizes: bigint[] = [];
  for (const reclaim of [undefined, RECLAIM]) {
    const id = await host.create();
    await host.run(id, `${FILL}; head -c 20000000 /dev/urandom > /root/kept; sync; rm /dev/shm/marked`);
    const checksum = await host.run(id, "md5sum < /root/kept");
    const { snapshot, hooks } = await host.client.pauseSandbox({ sandboxId: id, reclaim });
    assertEquals(hooks.filter(({ outcome }) => outcome !== "ok"), []);
    sizes.push(snapshot!.memoryBytes);
    await host.client.resumeSandbox({ sandboxId: id });
    assertEquals(await host.run(id, "md5sum < /root/kept"), checksum);
    await host.client.destroySandbox({ sandboxId: id });
  }
  const [without, reclaimed] = sizes.map(Number) as [number, number];
  console.log(
    `memory stored: ${without} bytes without reclaim, ${reclaimed} with (${(reclaimed / without).toFixed(2)})`,
  );
  assertLess(reclaimed, without * 0.7);
});

Deno.test("what a resumed guest frees leaves the host and its snapshots, and its old bytes never come back", async (t) => {
  await using host = await startTestHostAgent();
  const id = await host.create();
  await host.run(id, `${FILL}; head -c 8000000 /dev/urandom > /dev/shm/kept`);
  const checksums = await host.run(id, "md5sum /dev/shm/kept /dev/shm/marked");
  const first = await host.client.pauseSandbox({ sandboxId: id });
  assertGreater(await markedPages(host, first.snapshot!.snapshotId), MARKED_MB * 256 - 1);
  await host.client.resumeSandbox({ sandboxId: id });

  await t.step("memory that was loaded from the snapshot leaves the host when it is freed", async () => {
    assertEquals(await host.run(id, "md5sum /dev/shm/kept /dev/shm/marked"), checksums);
    const loaded = residentBytes(host, id);
    await host.run(id, "rm /dev/shm/marked");
    await eventually(
      () => Promise.resolve(residentBytes(host, id) < loaded - MARKED_MB * MIB * 0.8 || undefined),
      "less resident memory",
    );
  });

  await t.step("what the guest takes again is what it writes, and zero where it does not", async () => {
    await host.run(
      id,
      `truncate -s ${MARKED_MB}M /dev/shm/again
       dd if=/dev/urandom of=/dev/shm/again bs=1M count=10 seek=20 conv=notrunc 2> /dev/null
       cmp -n $((20 << 20)) /dev/shm/again /dev/zero; cmp -i $((30 << 20)):0 -n $((18 << 20)) /dev/shm/again /dev/zero`,
    );
  });

  const again = await host.run(id, "md5sum /dev/shm/kept /dev/shm/again");
  const second = await host.client.pauseSandbox({ sandboxId: id, reclaim: RECLAIM });
  let left = 0;
  await t.step("the next snapshot has hardly any of it", async () => {
    left = await markedPages(host, second.snapshot!.snapshotId);
    console.log(`${left} of ${MARKED_MB * 256} freed pages are left in the next snapshot`);
    assertLess(left, MARKED_MB * 256 * 0.1);
  });

  await t.step(
    "a resume from there has the right bytes, and the guest's free memory is zero when it is taken",
    async () => {
      await host.client.resumeSandbox({ sandboxId: id });
      assertEquals(await host.run(id, "md5sum /dev/shm/kept /dev/shm/again"), again);
      await host.run(
        id,
        `python3 -c '
import mmap
free = [int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemFree")][0]
size = (free // 1024 * 3 // 4) << 20
memory = mmap.mmap(-1, size)
zeros = bytes(1 << 20)
for at in range(0, size, 1 << 20):
    assert memory[at:at + (1 << 20)] == zeros, at
    memory[at:at + 4096] = b"x" * 4096
'`,
      );
      const third = await host.client.pauseSandbox({ sandboxId: id });
      assertEquals(third.snapshot!.generation, 3);
      assertLess(await markedPages(host, third.snapshot!.snapshotId), left + 1);
    },
  );
});
