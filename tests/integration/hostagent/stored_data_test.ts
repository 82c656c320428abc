// What a host tells that it stores for whom, with real VMs.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { newId } from "@torpor/ids";
import { eventually, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";

/** What only each sandbox stores, and the sum of everything. */
async function storedOf({ client }: TestHostAgent): Promise<{ own: Map<string, bigint>; total: bigint }> {
  const { sandboxes } = await client.listSandboxes({});
  const { snapshots } = await client.listSnapshots({});
  const bytes = [...sandboxes, ...snapshots].map(({ uniqueBytes, sharedBytes }) => uniqueBytes + sharedBytes);
  return {
    own: new Map(sandboxes.map(({ sandboxId, uniqueBytes }) => [sandboxId, uniqueBytes])),
    total: bytes.reduce((sum, one) => sum + one, 0n),
  };
}

async function storedOnDisk({ layout }: TestHostAgent): Promise<number> {
  const { stdout } = await new Deno.Command("du", { args: ["-sB1", layout.snapshots] }).output();
  return Number(new TextDecoder().decode(stdout).split("\t")[0]);
}

Deno.test("a host tells what it stores for each: the sums are what its disk holds, and the last reader has all for itself", async () => {
  await using host = await startTestHostAgent();
  const { client } = host;
  const id = await host.create({ memoryMb: 128 });
  await host.run(id, "head -c 16000000 /dev/urandom > /root/data; sync");
  const kept = newId();
  await client.createSnapshot({ sandboxId: id, snapshotId: kept, keepSandbox: false });
  const children = [newId(), newId()];
  for (const sandboxId of children) {
    await client.createSandbox({ sandboxId, snapshotId: kept });
    await client.pauseSandbox({ sandboxId });
  }
  // The measurement in the background.
  const { own, total } = await eventually(async () => {
    const stored = await storedOf(host);
    return children.every((child) => stored.own.get(child)! > 0n) ? stored : undefined;
  }, "what the children store");
  const onDisk = await storedOnDisk(host);
  // Directories and what describes the data are not counted.
  assert(Math.abs(onDisk - Number(total)) < 300_000, `${onDisk} on disk, ${total} told`);
  assertGreater(own.get(children[0]!)!, 1_000_000n);

  // The last reader has it all for itself.
  await client.deleteSnapshot({ snapshotId: kept });
  await client.destroySandbox({ sandboxId: children[0]! });
  const alone = await eventually(async () => {
    const { sandboxes: [sandbox] } = await client.listSandboxes({});
    return sandbox!.sharedBytes === 0n ? sandbox : undefined;
  }, "the last reader");
  assert(Math.abs(await storedOnDisk(host) - Number(alone.uniqueBytes)) < 200_000);
  assertEquals(await host.client.resumeSandbox({ sandboxId: children[1]! }).then(({ status }) => status), "running");
});
