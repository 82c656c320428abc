import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { newId } from "@torpor/ids";
import { startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";

const call = (sandboxId: string) => ({ sandboxId, operationId: newId(), version: 0n });

async function pause(host: TestHostAgent, sandboxId: string): Promise<string> {
  return (await host.client.pauseSandbox(call(sandboxId))).snapshot!.snapshotId;
}

async function resume(host: TestHostAgent, sandboxId: string): Promise<void> {
  await host.client.resumeSandbox({ ...call(sandboxId), timeoutSec: 0, snapshotId: "" });
}

Deno.test("a guest goes on unchanged from compacted memory and from a disk that became a difference", async () => {
  await using host = await startTestHostAgent();
  const id = await host.create({ memoryMb: 192 });
  const rewrite = "dd if=/dev/urandom of=/dev/shm/rewritten bs=1M count=24 conv=notrunc status=none";
  const sums = "sha256sum /dev/shm/* /root/disk-* | sha256sum";
  await host.run(id, `${rewrite} && dd if=/dev/urandom of=/root/disk-1 bs=1M count=20 status=none && sync`);
  await pause(host, id);
  const kept = await host.client.createSnapshot({ ...call(id), snapshotId: newId(), name: "first", keepSandbox: true });
  const keptId = kept.snapshot!.snapshotId;
  await resume(host, id);
  await host.run(id, rewrite);
  await pause(host, id);
  await resume(host, id);
  await host.run(id, `${rewrite} && dd if=/dev/urandom of=/root/disk-2 bs=64K count=1 status=none && sync`);
  const expected = await host.run(id, sums);
  const newestId = await pause(host, id);

  const before = await host.client.inspectSnapshot({ sandboxId: id });
  assertEquals(JSON.parse(before.manifestJson).snapshot_id, newestId);
  assertEquals(before.generations.map(({ generation }) => generation), [3, 2, 1]);
  assertEquals(before.generations.map(({ committed }) => committed), [true, false, false]);
  const preview = await host.client.collectSnapshots({ dryRun: true });
  assertEquals(await host.client.inspectSnapshot({ sandboxId: id }), before);
  const collected = await host.client.collectSnapshots({ dryRun: false });
  assertEquals(collected.collected, preview.collected);
  assert(collected.collected.some(({ action }) => action === "compacted"));
  assertGreater(Number(collected.bytes), 16 * 2 ** 20);

  const after = await host.client.inspectSnapshot({ sandboxId: id, verify: true });
  const live = (table: typeof after.memory) =>
    table!.sources.reduce((sum, { liveBytes }) => sum + Number(liveBytes), 0);
  assertEquals(live(after.memory), live(before.memory));
  assertEquals(after.verified.filter(({ verdict }) => verdict !== "good" && verdict !== "unchecked"), []);
  const sources = after.disk!.sources.map(({ snapshotId }) => snapshotId);
  assertEquals(sources.includes(newestId) && sources.length > 1, true);
  const disk = JSON.parse(after.manifestJson).files.disk;
  assertLess(disk.allocated_bytes, 8 * 2 ** 20);

  await resume(host, id);
  assertEquals(await host.run(id, sums), expected);
  // The kept snapshot's data stays for whoever reads it, also when it is deleted.
  await pause(host, id);
  await host.client.deleteSnapshot({ snapshotId: keptId });
  await host.client.collectSnapshots({});
  await resume(host, id);
  assertEquals(await host.run(id, sums), expected);
});
