import { assert, assertEquals } from "@std/assert";
import { type Database, type SandboxRow, sandboxRows } from "@torpor/db";
import type { FakeHost, FakeKept, FakeSandbox } from "@torpor/testing/fake_host";

/**
 * What has to hold when everything is at rest.
 * @throws AssertionError where the database and a host, or two tables, disagree.
 */
export async function assertAgreement(database: Database, hosts: readonly FakeHost[]): Promise<void> {
  const [hosted, kept] = [new Map<string, FakeSandbox>(), new Map<string, FakeKept>()];
  for (const host of hosts) {
    for (const [id, sandbox] of host.sandboxes) {
      assert(!hosted.has(id), `${id} is on two hosts`);
      hosted.set(id, sandbox);
    }
    for (const [id, snapshot] of host.kept) kept.set(id, snapshot);
  }
  const rows = await sandboxRows("test", () => database.sql`select * from sandboxes`);
  for (const row of rows) checkSandbox(row, hosted.get(row.id));
  assertEquals((await database.sql`select from operations where state = 'running'`).length, 0);
  const ready = await database.sql<{ id: string }[]>`select id from snapshots where state = 'ready'`;
  assertEquals(ready.map(({ id }) => id).sort(), [...kept.keys()].sort());
  assertEquals((await database.sql`select from snapshots where state = 'ready' and kind = 'fork'`).length, 0);
  const halves = await database.sql`
    select from forks where state = 'failed' and exists (
      select from sandboxes where id = any(child_ids) and state <> 'deleted')`;
  assertEquals(halves.length, 0, "a fork that failed has no children");
  await checkReservations(database);
}

async function checkReservations(database: Database): Promise<void> {
  const sums = await database.sql`
    select id, reserved_vcpus, reserved_memory_mb,
      (select count(*) from sandboxes where state = 'running' and host_id = hosts.id) as running,
      (select coalesce(sum(vcpus), 0)::int8 from reservations where host_id = hosts.id) as summed_vcpus,
      (select coalesce(sum(memory_mb), 0)::int8 from reservations where host_id = hosts.id) as summed_memory_mb,
      stored_disk_mb,
      (select coalesce(sum(stored_mb(snapshots)), 0)::int8 from snapshots where host_id = hosts.id) as summed_stored_mb
    from hosts`;
  for (const host of sums) {
    assertEquals(host.reservedVcpus, host.summedVcpus);
    assertEquals(host.reservedMemoryMb, host.summedMemoryMb);
    assertEquals(host.storedDiskMb, host.summedStoredMb);
    assertEquals(host.reservedVcpus, host.running);
  }
}

function checkSandbox(row: SandboxRow, there: FakeSandbox | undefined): void {
  const about = `${row.id} is ${row.state} (${row.reason}), the host says ${there?.status} (${there?.reason})`;
  if (row.state === "running") assertEquals(there?.status, "running", about);
  if (row.state === "paused") {
    assertEquals(there?.status, "paused", about);
    assertEquals(row.snapshot?.id, there?.snapshot?.snapshotId, about);
  }
  if (row.state === "deleted") assertEquals(there, undefined, about);
  if (row.state === "failed") assert(there?.status !== "running", about);
  assert(["running", "paused", "deleted", "failed"].includes(row.state), about);
}
