import { assertEquals, assertRejects } from "@std/assert";
import { newId } from "@torpor/ids";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import {
  expireFailedSnapshots,
  expireKeptSnapshots,
  insertKeptSnapshot,
  listHosts,
  setKeptSnapshotExpiry,
  setKeptSnapshotState,
  violates,
} from "./mod.ts";

const MIB = 2n ** 20n;

async function prepare({ database: { sql } }: TestDatabase) {
  const [hostId, sandboxId] = [newId(), newId()];
  await sql`insert into hosts (id, name, address, vcpus, memory_mb, disk_mb) values (${hostId}, 'h', 'unix:/h', 1, 1, 1)`;
  await sql`insert into sandboxes (id, team_id, state, reason, host_id, template, vcpus, memory_mb, disk_size_mb, timeout_sec)
    values (${sandboxId}, 'default', 'failed', 'x', ${hostId}, 'base', 1, 256, 64, 0)`;
  const made = { teamId: "default", platform: false, template: "base", vcpus: 1, memoryMb: 256, diskSizeMb: 64 };
  const insert = (kind: "named" | "fork", expiresInSec: number) => {
    const id = newId();
    return insertKeptSnapshot(sql, { ...made, id, name: id, kind, hostId, sandboxId, expiresInSec });
  };
  const makeReady = (id: string, sizeBytes: bigint) => {
    const pages = { pagesResident: 0n, pagesDirty: 0n, pagesData: 0n };
    const sizes = { generation: 1, sizeBytes, memoryBytes: 0n, diskBytes: 0n, stoppedUs: 0n, ...pages };
    return setKeptSnapshotState(sql, id, ["creating"], "ready", { sizes });
  };
  return { insert, makeReady };
}

Deno.test("what is due expires, the oldest first, at most so many at once; a fork's snapshot never does", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const { insert, makeReady } = await prepare(test);
  const ids: string[] = [];
  for (const expiresInSec of [-30, -20, -10, 60, 0]) {
    const { id } = await insert("named", expiresInSec);
    await makeReady(id, MIB);
    ids.push(id);
  }
  const { id: creating } = await insert("named", -60);
  assertEquals(
    (await expireKeptSnapshots(sql, 2)).map(({ id, state }) => [id, state]).sort(),
    [
      [ids[0], "deleting"],
      [ids[1], "deleting"],
    ].sort(),
  );
  assertEquals((await expireKeptSnapshots(sql, 10)).map(({ id }) => id), [ids[2]]);
  assertEquals(await expireKeptSnapshots(sql, 10), []);
  await setKeptSnapshotState(sql, creating, ["creating"], "failed", { reason: "no_space" });
  assertEquals(await expireFailedSnapshots(sql, 60_000, 10), []);
  const failed = await expireFailedSnapshots(sql, 0, 10);
  assertEquals(failed.map(({ id, state, reason }) => [id, state, reason]), [[creating, "deleting", ""]]);

  const ofFork = await assertRejects(() => insert("fork", 60));
  assertEquals(violates(ofFork, "snapshot_of_fork_stays"), true);
  const { id: fork } = await insert("fork", 0);
  assertEquals(await setKeptSnapshotExpiry(sql, fork, 60), undefined);
});

Deno.test("the sweeps read what is due and nothing else", async () => {
  await using test = await openTestDatabase();
  const { insert, makeReady } = await prepare(test);
  for (const expiresInSec of [-5, ...Array(20).fill(60)]) {
    await makeReady((await insert("named", expiresInSec)).id, MIB);
  }
  for (let i = 0; i < 20; i++) {
    const { id } = await insert("named", 0);
    await setKeptSnapshotState(test.database.sql, id, ["creating"], "failed", { reason: "x" });
  }
  await test.database.transaction("sweep", async (sql) => {
    await sql`set local enable_seqscan = off`; // So few rows would be read whole.
    const read = async (index: string) =>
      (await sql`select pg_stat_get_xact_numscans(${index}::regclass) as scans,
        pg_stat_get_xact_tuples_returned(${index}::regclass) as rows`)[0];
    assertEquals((await expireKeptSnapshots(sql, 10)).length, 1);
    assertEquals(await read("snapshots_expiry"), { scans: 1n, rows: 1n });
    assertEquals((await expireFailedSnapshots(sql, 60_000, 10)).length, 0);
    assertEquals(await read("snapshots_failed"), { scans: 1n, rows: 0n });
  });
});

Deno.test("a host's sum follows what its snapshots store, whatever becomes of them", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const { insert, makeReady } = await prepare(test);
  const stored = async () => {
    const [sums] = await sql`select coalesce(sum(stored_mb(snapshots)), 0)::int8 as counted from snapshots`;
    const [host] = await listHosts(sql);
    assertEquals(host!.storedDiskMb, sums!.counted);
    return host!.storedDiskMb;
  };
  const [a, b, c] = [await insert("named", 0), await insert("fork", 0), await insert("named", 0)];
  assertEquals(await stored(), 0n);
  await makeReady(a.id, MIB + 1n);
  await makeReady(b.id, 10n * MIB);
  await makeReady(c.id, 100n * MIB);
  assertEquals(await stored(), 112n, "parts of a MiB count as one");
  await setKeptSnapshotState(sql, a.id, ["ready"], "deleting");
  await setKeptSnapshotState(sql, b.id, ["ready"], "failed", { reason: "snapshot_missing" });
  assertEquals(await stored(), 102n);
  await setKeptSnapshotState(sql, a.id, ["deleting"], "deleted");
  assertEquals(await stored(), 100n);
  await sql`delete from snapshots`;
  assertEquals(await stored(), 0n);
});
