/** Damage that only reading all data finds: who is told, what is refused, and how it ends. */
import { assertEquals } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { eventually, makeTestHome, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";

const HOUR_MS = 3_600_000;

Deno.test("a paused disk gets checksums; damage is found, reported, refused also after a restart, and forgotten when undone", async () => {
  const home = await makeTestHome();
  const started = () => startTestHostAgent({ home, verifyIntervalMs: HOUR_MS });
  let id: string;
  let snapshotId: string;
  let undo: () => Promise<void>;
  const keptId = newId();
  {
    await using host = await started();
    id = await host.create();
    await host.run(id, "head -c 3000000 /dev/urandom > /root/file; sha256sum /root/file > /root/sum; sync");
    snapshotId = (await host.client.pauseSandbox({ sandboxId: id })).snapshot!.snapshotId;
    const { disk, diskSums } = host.layout.snapshot(snapshotId);
    await eventually(async () => await Deno.stat(diskSums).catch(() => undefined), "checksums of the disk");
    await host.client.createSnapshot({ sandboxId: id, snapshotId: keptId, keepSandbox: true });
    assertEquals(await bad(host, snapshotId), []);
    assertEquals(await bad(host, keptId), []);
    undo = await flipByte(disk);
    assertEquals(await bad(host, snapshotId), [`${snapshotId} disk.raw damaged`]);
    // A second name for the same file, and data that is read elsewhere.
    assertEquals(await bad(host, keptId), [`${keptId} disk.raw damaged`]);
    await requireRefused(host);
  }
  {
    await using host = await started();
    await requireRefused(host);
    assertEquals((await host.client.inspectSnapshot({ snapshotId })).knownDamage.map(({ file }) => file), ["disk.raw"]);
    await undo();
    assertEquals(await bad(host, snapshotId), []);
    assertEquals(await reasonOf(host, id), "snapshot_corrupt", "the last resume has failed");
    await host.client.resumeSandbox({ sandboxId: id });
    assertEquals(await reasonOf(host, id), "");
    assertEquals(await host.run(id, "sha256sum -c /root/sum"), "/root/file: OK");
    await host.client.destroySandbox({ sandboxId: id });
    await host.client.deleteSnapshot({ snapshotId: keptId });
  }
  await Deno.remove(home, { recursive: true });

  async function requireRefused(host: TestHostAgent): Promise<void> {
    assertEquals(await reasonOf(host, id), "snapshot_corrupt");
    const { snapshots } = await host.client.listSnapshots({});
    assertEquals(snapshots.map(({ snapshot, reason }) => [snapshot!.snapshotId, reason]), [[
      keptId,
      "snapshot_corrupt",
    ]]);
    assertEquals(await codeOf(host.client.resumeSandbox({ sandboxId: id })), "snapshot_corrupt");
    assertEquals(await codeOf(host.client.createSandbox({ snapshotId: keptId })), "snapshot_corrupt");
  }
});

async function bad(host: TestHostAgent, snapshotId: string): Promise<string[]> {
  const { verified } = await host.client.inspectSnapshot({ snapshotId, verify: true });
  return verified.filter(({ verdict }) => verdict !== "good")
    .map(({ snapshotId, file, verdict }) => `${snapshotId} ${file} ${verdict}`);
}

async function reasonOf(host: TestHostAgent, sandboxId: string): Promise<string> {
  return (await host.client.getSandbox({ sandboxId })).sandbox!.reason;
}

/** In the file system's first block group, so that it is no hole. @returns what undoes it. */
async function flipByte(path: string): Promise<() => Promise<void>> {
  const change = async () => {
    using file = await Deno.open(path, { read: true, write: true });
    const byte = new Uint8Array(1);
    await file.seek(1024, Deno.SeekMode.Start);
    await file.read(byte);
    byte[0]! ^= 1;
    await file.seek(1024, Deno.SeekMode.Start);
    await file.write(byte);
  };
  await change();
  return change;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(() => "success", (error) => error instanceof TorporError ? error.code : String(error));
}
