import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import {
  findKeptSnapshot,
  insertKeptSnapshot,
  type KeptSnapshotRow,
  listKeptSnapshotsToReconcile,
  setKeptSnapshotState,
  violates,
} from "./mod.ts";

const SIZES = {
  generation: 1,
  sizeBytes: 2n,
  memoryBytes: 3n,
  diskBytes: 4n,
  pagesResident: 5n,
  pagesDirty: 6n,
  pagesData: 7n,
  stoppedUs: 8n,
};

/** A host and a sandbox to take snapshots of. */
async function prepare({ database: { sql } }: TestDatabase): Promise<{ hostId: string; sandboxId: string }> {
  const [hostId, sandboxId] = [newId(), newId()];
  await sql`insert into hosts (id, name, address, vcpus, memory_mb, disk_mb) values (${hostId}, 'h', 'unix:/h', 1, 1, 1)`;
  await sql`insert into sandboxes (id, team_id, state, reason, host_id, template, vcpus, memory_mb, disk_size_mb, timeout_sec)
    values (${sandboxId}, 'default', 'failed', 'x', ${hostId}, 'base', 1, 256, 64, 0)`;
  return { hostId, sandboxId };
}

function insert(test: TestDatabase, of: { hostId: string; sandboxId: string }, row: Partial<KeptSnapshotRow> = {}) {
  const made = { template: "base", vcpus: 1, memoryMb: 256, diskSizeMb: 64, teamId: "default", name: "s" };
  const snapshot = { id: newId(), kind: "named", platform: false, ...made, ...of, ...row } as const;
  return insertKeptSnapshot(test.database.sql, snapshot);
}

Deno.test("states move only from where they may, and rows that must never be are refused", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const row = await insert(test, await prepare(test));
  assertEquals([row.state, row.sizes, row.deletedAt], ["creating", null, null]);
  for (
    const [to, constraint] of [["ready", "snapshot_ready_complete"], ["failed", "snapshot_failed_has_reason"]] as const
  ) {
    const error = await assertRejects(() => setKeptSnapshotState(sql, row.id, ["creating"], to));
    assertEquals(violates(error, constraint), true, to);
  }
  const ready = await setKeptSnapshotState(sql, row.id, ["creating"], "ready", { sizes: SIZES });
  assertEquals([ready?.state, ready?.sizes], ["ready", SIZES]);
  assertEquals(await setKeptSnapshotState(sql, row.id, ["creating"], "failed", { reason: "x" }), undefined);
  const deleted = await setKeptSnapshotState(sql, row.id, ["ready"], "deleted");
  assertEquals([deleted?.sizes, deleted?.deletedAt instanceof Date], [SIZES, true]);
});

Deno.test("a name is taken while its snapshot is alive, per team and among the platform's", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  await sql`insert into teams (id, name) values ('other', 'other')`;
  const of = await prepare(test);
  const taken = async (row: Partial<KeptSnapshotRow>) => {
    const error = await assertRejects(() => insert(test, of, row), TorporError);
    assertEquals([error.code, error.field], ["already_exists", "name"]);
  };
  const first = await insert(test, of);
  await taken({});
  const theirs = await insert(test, of, { teamId: "other", platform: true });
  await taken({ teamId: "default", platform: true });
  assertEquals((await findKeptSnapshot(sql, "default", "s"))?.id, first.id, "the own comes first");
  assertEquals((await findKeptSnapshot(sql, "default", theirs.id))?.id, theirs.id);
  await setKeptSnapshotState(sql, first.id, ["creating"], "failed", { reason: "no_space" });
  assertEquals((await findKeptSnapshot(sql, "default", "s"))?.id, theirs.id, "a live one before a failed one");
  const second = await insert(test, of);
  assertEquals((await findKeptSnapshot(sql, "default", "s"))?.id, second.id);
  await insert(test, of, { name: "hidden", kind: "fork" });
  assertEquals(await findKeptSnapshot(sql, "default", "hidden"), undefined);
  const rows = await listKeptSnapshotsToReconcile(sql, of.hostId, []);
  assertEquals(rows.map(({ inOperation }) => inOperation), Array(4).fill(false));
});
