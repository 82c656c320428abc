import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { openTestDatabase } from "@torpor/testing/postgres";
import {
  compareAndSetState,
  countTeamUse,
  createTeam,
  type Database,
  deleteTeam,
  getTeamLimits,
  insertKeptSnapshot,
  insertSandbox,
  recordStoredBytes,
  requireTeamRoom,
  type SandboxRow,
  type SandboxSpec,
  type SandboxState,
  setKeptSnapshotState,
  type TeamUse,
  updateTeam,
  waiveLimits,
} from "./mod.ts";

const HOST = "h".repeat(20);
const SPEC: SandboxSpec = {
  template: "base",
  vcpus: 2,
  memoryMb: 256,
  diskSizeMb: 1000,
  timeoutSec: 0,
  autoDeleteAfterSec: 0,
  ttlSec: 0,
  onTtl: "pause",
  env: {},
  metadata: {},
  sourceSnapshotId: null,
  reclaim: null,
};
const SNAPSHOT = {
  id: "s".repeat(20),
  generation: 1,
  sizeBytes: 1n,
  memoryBytes: 1n,
  diskBytes: 0n,
  pagesResident: 1n,
  pagesDirty: 1n,
  pagesData: 1n,
  createdAt: new Date(),
};

async function addHost(database: Database): Promise<void> {
  await database
    .sql`insert into hosts (id, name, address, vcpus, memory_mb, disk_mb) values (${HOST}, 'h', 'a', 1, 1, 1)`;
}

/** A pending sandbox. Its operation is one that was closed long ago: nobody looks at it here. */
async function create(database: Database, teamId: string): Promise<SandboxRow> {
  return await database.transaction("create", async (sql) => {
    const id = newId();
    const operationId = newId();
    const row = await insertSandbox(sql, { id, teamId, operationId, deadlineMs: 1000, spec: SPEC });
    await sql`insert into operations (id, sandbox_id, kind, version, deadline) values (${operationId}, ${id}, 'create', 1, now())`;
    return row;
  });
}

async function move(database: Database, row: SandboxRow, ...states: SandboxState[]): Promise<SandboxRow> {
  let current = row;
  for (const to of states) {
    const transitional = ["starting", "pausing", "resuming", "snapshotting", "deleting"].includes(to);
    const accelerator = to === "running" ? "tcg" : to === "paused" ? "" : undefined;
    const snapshot = to === "paused" ? SNAPSHOT : undefined;
    const reason = to === "failed" ? "vm_gone" : "";
    const changes = { hostId: HOST, deadlineMs: transitional ? 1000 : undefined, accelerator, snapshot, reason };
    current = (await compareAndSetState(database.sql, current, to, changes))!;
  }
  return current;
}

async function refused(work: () => Promise<unknown>): Promise<[string, Record<string, number>]> {
  const error = await assertRejects(work, TorporError);
  assertEquals(error.code, "quota_exceeded");
  return [error.field!, error.details!];
}

/** What the triggers have counted, which must be what there is. */
async function counted(database: Database, teamId: string): Promise<TeamUse> {
  const [row] = await database.sql<{ [Name in keyof TeamUse]: bigint }[]>`
    select sandboxes, running_sandboxes, vcpus, memory_mb, disk_mb, snapshots, stored_bytes
    from team_limits where team_id = ${teamId}`;
  const use = Object.fromEntries(
    Object.entries(row!).map(([name, value]) => [name, Number(value)]),
  ) as unknown as TeamUse;
  assertEquals((await countTeamUse(database.sql, [teamId])).get(teamId), use);
  return use;
}

Deno.test("each limit refuses what goes beyond it, with the limit and what is in use, and nothing else", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await addHost(database);
  for (
    const [name, limit, used, asked] of [
      ["maxSandboxes", 1, 1, 1],
      ["maxRunningSandboxes", 1, 1, 1],
      ["maxVcpus", 3, 2, 2],
      ["maxMemoryMb", 511, 256, 256],
      ["maxDiskMb", 1999, 1000, 1000],
    ] as const
  ) {
    const team = await createTeam(database, { name, limits: { [name]: limit } });
    const first = await create(database, team.id);
    const column = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    assertEquals(await refused(() => create(database, team.id)), [column, { limit, used, asked }]);
    assertEquals(
      await refused(() => requireTeamRoom(database.sql, team.id, 1, SPEC)),
      [column, { limit, used, asked }],
    );
    await create(database, "default");
    await move(database, first, "failed");
    await create(database, team.id);
    assertEquals((await counted(database, team.id)).sandboxes, 1);
  }
});

Deno.test("a paused sandbox holds no running one's share; its resume asks for it again, what hosts do does not", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await addHost(database);
  const { id } = await createTeam(database, { name: "t", limits: { maxRunningSandboxes: 1 } });
  const paused = await move(database, await create(database, id), "starting", "running", "pausing", "paused");
  assertEquals((await counted(database, id)).runningSandboxes, 0);
  const other = await move(database, await create(database, id), "starting", "running");
  assertEquals(await refused(() => move(database, paused, "resuming")), [
    "max_running_sandboxes",
    { limit: 1, used: 1, asked: 1 },
  ]);
  const taking = await move(database, paused, "snapshotting");
  assertEquals((await counted(database, id)).runningSandboxes, 1, "a checkpoint of a paused one needs no VM");
  const rested = await move(database, taking, "paused");
  await database.transaction("adopt", async (sql) => {
    await waiveLimits(sql);
    await compareAndSetState(sql, rested, "resuming", { deadlineMs: 1000 });
  });
  assertEquals((await counted(database, id)).runningSandboxes, 2);
  const lost = await move(database, other, "lost");
  assertEquals((await counted(database, id)).runningSandboxes, 2, "a lost one may run");
  await move(database, lost, "running", "deleting", "deleted");
  assertEquals(await counted(database, id), {
    sandboxes: 1,
    runningSandboxes: 1,
    vcpus: 2,
    memoryMb: 256,
    diskMb: 1000,
    snapshots: 0,
    storedBytes: 0,
  });
});

Deno.test("snapshots are counted while they live, and their bytes until their host has removed them", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await addHost(database);
  const { id: teamId } = await createTeam(database, { name: "t", limits: { maxSnapshots: 1, maxDiskMb: 1005 } });
  const sandbox = await create(database, teamId);
  const take = (name: string, kind: "named" | "fork" = "named") => {
    const source = { template: "base", vcpus: 2, memoryMb: 256, diskSizeMb: 1000, hostId: HOST, sandboxId: sandbox.id };
    return insertKeptSnapshot(database.sql, { ...source, id: newId(), teamId, name, kind, platform: false });
  };
  const first = await take("a");
  assertEquals(await refused(() => take("b")), ["max_snapshots", { limit: 1, used: 1, asked: 1 }]);
  await take("fork-1", "fork");
  const sizes = { ...SNAPSHOT, sizeBytes: 5n * 1048576n, stoppedUs: 0n };
  await setKeptSnapshotState(database.sql, first.id, ["creating"], "ready", { sizes });
  assertEquals((await counted(database, teamId)).diskMb, 1005);
  await setKeptSnapshotState(database.sql, first.id, ["ready"], "deleting");
  assertEquals(await refused(() => take("b")), ["max_disk_mb", { limit: 1005, used: 1005, asked: 1 }]);
  await setKeptSnapshotState(database.sql, first.id, ["deleting"], "deleted");
  await take("b");
  assertEquals((await counted(database, teamId)).snapshots, 1);
});

Deno.test("a team that stores its limit gets nothing that would store more; a pause and a delete are never refused", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await addHost(database);
  const { id: teamId } = await createTeam(database, { name: "t", limits: { maxStoredBytes: 1000 } });
  const measure = (id: string, uniqueBytes: bigint, table: "sandboxes" | "snapshots" = "sandboxes") =>
    recordStoredBytes(database.sql, table, HOST, new Map([[id, { uniqueBytes, sharedBytes: 100n }]]));
  const sandbox = await move(database, await create(database, teamId), "starting", "running");
  const source = { template: "base", vcpus: 2, memoryMb: 256, diskSizeMb: 1000, hostId: HOST, sandboxId: sandbox.id };
  const take = (name: string) => {
    const kept = { ...source, id: newId(), teamId, name, kind: "named", platform: false } as const;
    return insertKeptSnapshot(database.sql, kept);
  };
  const snapshot = await take("a");
  await measure(sandbox.id, 500n);
  await measure(snapshot.id, 299n, "snapshots");
  await take("b");
  await measure(sandbox.id, 501n);
  assertEquals((await counted(database, teamId)).storedBytes, 1000);
  const met = ["max_stored_bytes", { limit: 1000, used: 1000, asked: 1 }] as const;
  assertEquals(await refused(() => create(database, teamId)), [...met]);
  assertEquals(await refused(() => take("c")), [...met]);
  for (const count of [1, 3]) {
    assertEquals(await refused(() => requireTeamRoom(database.sql, teamId, count, SPEC)), [...met]);
  }
  const paused = await move(database, sandbox, "pausing", "paused");
  assertEquals(await refused(() => move(database, paused, "resuming")), [...met]);
  const resumed = await database.transaction("adopt", async (sql) => {
    await waiveLimits(sql);
    return await compareAndSetState(sql, paused, "resuming", { deadlineMs: 1000 });
  });
  const deleting = await move(database, resumed!, "running", "deleting");
  assertEquals((await counted(database, teamId)).storedBytes, 1000, "its host has not removed it");
  await move(database, deleting, "deleted");
  await measure(sandbox.id, 700n);
  assertEquals((await counted(database, teamId)).storedBytes, 399, "what is told late of a deleted one does not count");
  await create(database, teamId);
});

Deno.test("what hosts measure while sandboxes are deleted is counted once, also from the first limit on", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await addHost(database);
  const { id } = await createTeam(database, { name: "t", limits: {} });
  const rows: SandboxRow[] = [];
  for (let n = 0; n < 20; n++) rows.push(await move(database, await create(database, id), "starting", "running"));
  const measure = (uniqueBytes: bigint) =>
    recordStoredBytes(
      database.sql,
      "sandboxes",
      HOST,
      new Map(rows.map((row) => [row.id, { uniqueBytes, sharedBytes: 0n }])),
    );
  const measures = (async () => {
    for (let round = 1n; round <= 20n; round++) await measure(round);
  })();
  const deletes = Promise.all(rows.slice(5).map((row) => move(database, row, "deleting", "deleted")));
  await updateTeam(database, id, { limits: { maxStoredBytes: 1_000_000 } });
  await Promise.all([measures, deletes]);
  assertEquals((await counted(database, id)).storedBytes, 100);
});

Deno.test("100 at once on a limit of 10 are exactly 10, also when the limit is set meanwhile", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const { id } = await createTeam(database, { name: "t", limits: { maxSandboxes: 10 } });
  const results = await Promise.allSettled(Array.from({ length: 100 }, () => create(database, id)));
  assertEquals(results.filter(({ status }) => status === "fulfilled").length, 10);
  assertEquals((await counted(database, id)).sandboxes, 10);

  const late = await createTeam(database, { name: "late", limits: {} });
  const creates = Promise.allSettled(Array.from({ length: 60 }, () => create(database, late.id)));
  await updateTeam(database, late.id, { limits: { maxSandboxes: 20 } });
  await creates;
  await counted(database, late.id);
  await updateTeam(database, late.id, { limits: { maxSandboxes: null, maxVcpus: 1 } });
  assertEquals((await getTeamLimits(database.sql, [late.id])).get(late.id)!.maxSandboxes, null);
  assertEquals((await refused(() => create(database, late.id)))[0], "max_vcpus");
});

Deno.test("a team is deleted when it has nothing; what comes later is refused", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const team = await createTeam(database, { name: "t", limits: {} });
  const sandbox = await create(database, team.id);
  const conflict = await assertRejects(() => deleteTeam(database, team.id), TorporError);
  assertEquals([conflict.code, conflict.details], ["conflict", { sandboxes: 1, snapshots: 0 }]);
  await create(database, team.id);
  for (const { id } of [sandbox, ...await database.sql<{ id: string }[]>`select id from sandboxes`]) {
    await database.sql`update sandboxes set state = 'deleted', deadline = null where id = ${id}`;
  }
  await deleteTeam(database, team.id);
  assertEquals((await refused(() => create(database, team.id)))[1], { limit: 0, used: 0, asked: 1 });
  assertEquals((await assertRejects(() => deleteTeam(database, team.id), TorporError)).code, "team_not_found");
  await createTeam(database, { name: "t", limits: {} });
  const taken = await assertRejects(() => createTeam(database, { name: "t", limits: {} }), TorporError);
  assertEquals([taken.code, taken.field], ["already_exists", "name"]);
});
