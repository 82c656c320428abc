// Collections, one after the other without a rest, beside everything that makes and uses snapshots, with real VMs.
import { assertEquals, assertGreater } from "@std/assert";
import { newId } from "@torpor/ids";
import { startTestHostAgent } from "@torpor/testing/hostagent";

const EAGER = { liveShare: 0.9, minSavedBytes: 4096, maxSources: 2 };

Deno.test("collections beside pauses, resumes, spawns and deletions: every byte stays, nothing is left over", async () => {
  await using host = await startTestHostAgent({ overrides: { compactionLimits: EAGER } });
  const { client } = host;
  const id = await host.create({ memoryMb: 128 });
  let [ended, collections] = [false, 0];
  const collecting = (async () => {
    for (; !ended; collections++) await client.collectSnapshots({});
  })();
  try {
    for (let round = 0; round < 3; round++) {
      const write =
        `head -c 4000000 /dev/urandom > /dev/shm/${round}; head -c 2000000 /dev/urandom > /root/${round}; sync`;
      await host.run(id, write);
      const sum = await host.run(id, "cat /dev/shm/? /root/? | md5sum");
      const kept = newId();
      await client.createSnapshot({ sandboxId: id, snapshotId: kept, keepSandbox: true });
      const child = newId();
      await Promise.all([
        client.createSandbox({ sandboxId: child, snapshotId: kept }),
        client.pauseSandbox({ sandboxId: id }),
      ]);
      await client.deleteSnapshot({ snapshotId: kept });
      await Promise.all([client.resumeSandbox({ sandboxId: id }), client.pauseSandbox({ sandboxId: child })]);
      await client.resumeSandbox({ sandboxId: child });
      for (const one of [id, child]) assertEquals(await host.run(one, "cat /dev/shm/? /root/? | md5sum"), sum);
      await client.destroySandbox({ sandboxId: child });
    }
  } finally {
    ended = true;
    await collecting;
  }
  assertGreater(collections, 10);
  await client.pauseSandbox({ sandboxId: id });
  await client.collectSnapshots({});
  const { verified } = await client.inspectSnapshot({ sandboxId: id, verify: true });
  assertEquals(verified.filter(({ verdict }) => verdict === "damaged" || verdict === "missing"), []);
  await client.destroySandbox({ sandboxId: id });
  await client.collectSnapshots({});
  for (const name of ["sandboxes", "snapshots", "staging"]) {
    assertEquals([...Deno.readDirSync(`${host.layout.home}/${name}`)].map((entry) => entry.name), []);
  }
});
