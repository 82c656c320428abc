import { assert, assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";
import { type Database, foldUsage, getUsage, type UsageDay } from "./mod.ts";

const ID = "a".repeat(20);
const HOST = "h".repeat(20);
const DAY = 86_400;

function day(usage: UsageDay[], date: string): UsageDay | undefined {
  return usage.find((one) => one.day === date);
}

/** A sandbox of 2 vCPUs, 100 MiB and a disk of 1,000 MiB that runs since the given time. */
async function running(database: Database, since: string, id = ID): Promise<void> {
  const { sql } = database;
  await sql`insert into hosts (id, name, address, vcpus, memory_mb, disk_mb) values (${HOST}, 'h', 'a', 1, 1, 1)
    on conflict do nothing`;
  await sql`insert into sandboxes (id, team_id, state, host_id, accelerator, template, vcpus, memory_mb, disk_size_mb,
      timeout_sec, state_changed_at)
    values (${id}, 'default', 'running', ${HOST}, 'tcg', 'base', 2, 100, 1000, 0, ${since}::timestamptz)`;
  await sql`insert into operations (id, sandbox_id, kind, state, version, deadline, finished_at)
    values (${id}, ${id}, 'create', 'succeeded', 1, now(), now())`;
  await sql`update sandboxes set operation_id = ${id} where id = ${id}`;
}

/** As compareAndSetState, at a time of our own. */
async function change(database: Database, state: string, at: string, id = ID): Promise<void> {
  const transitional = ["pausing", "resuming", "snapshotting", "deleting"].includes(state);
  await database.sql`
    update sandboxes set state = ${state}, state_changed_at = ${at}::timestamptz,
      deadline = case when ${transitional}::boolean then now() end,
      reason = case when ${state} = 'failed' then 'vm_gone' else '' end,
      accelerator = case when ${state} = 'running' then 'tcg' when ${state} in ('paused', 'failed') then '' else accelerator end
    where id = ${id}`;
}

async function snapshotOf(database: Database, bytes: number, id = ID): Promise<void> {
  await database.sql`
    update sandboxes set snapshot_id = ${id}, snapshot_generation = 1, snapshot_size_bytes = ${bytes},
      snapshot_memory_bytes = 0, snapshot_disk_bytes = 0, snapshot_pages_resident = 0, snapshot_pages_dirty = 0,
      snapshot_pages_data = 0, snapshot_created_at = now() where id = ${id}`;
}

const LIFE = [
  ["pausing", "2026-03-01T00:30:00Z"],
  ["paused", "2026-03-01T01:00:00Z"],
  ["snapshotting", "2026-03-01T02:00:00Z"],
  ["paused", "2026-03-01T03:00:00Z"],
  ["resuming", "2026-03-02T01:00:00Z"],
  ["running", "2026-03-02T02:00:00Z"],
  ["snapshotting", "2026-03-02T03:00:00Z"],
  ["running", "2026-03-02T03:30:00Z"],
  ["lost", "2026-03-02T04:00:00Z"],
  ["running", "2026-03-02T10:00:00Z"],
  ["deleting", "2026-03-02T11:00:00Z"],
  ["deleted", "2026-03-02T12:00:00Z"],
] as const;

/** From 23:00 on the last of February; three hours of it run on the second of March, and one on the day before. */
const EXPECTED: UsageDay[] = [{
  day: "2026-02-28",
  vcpuSeconds: 2 * 3600,
  memoryMbSeconds: 100 * 3600,
  runningDiskMbSeconds: 1000 * 3600,
  pausedDiskMbSeconds: 0,
  snapshotByteSeconds: 0,
}, {
  day: "2026-03-01",
  vcpuSeconds: 2 * 3600,
  memoryMbSeconds: 100 * 3600,
  runningDiskMbSeconds: 1000 * 3600,
  pausedDiskMbSeconds: 1000 * (DAY - 3600),
  snapshotByteSeconds: 7 * (DAY - 3600),
}, {
  day: "2026-03-02",
  vcpuSeconds: 2 * 3 * 3600,
  memoryMbSeconds: 100 * 3 * 3600,
  runningDiskMbSeconds: 1000 * 3 * 3600,
  pausedDiskMbSeconds: 1000 * 2 * 3600,
  snapshotByteSeconds: 7 * 2 * 3600,
}];

Deno.test("usage is the sum of what each state lasted, by days of UTC, folded or not, however often", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await running(database, "2026-02-28T23:00:00Z");
  await snapshotOf(database, 7);
  const usage = () => getUsage(database.sql, "default", "2026-02-01", "2026-03-31");
  for (const [index, [state, at]] of LIFE.entries()) {
    await change(database, state, at);
    if (index % 4 === 3) assertEquals(await foldUsage(database.sql, 2), 2);
  }
  assertEquals(await usage(), EXPECTED);
  while (await foldUsage(database.sql, 1) > 0);
  assertEquals(await foldUsage(database.sql, 100), 0);
  assertEquals(await usage(), EXPECTED, "nothing is counted twice");
  assertEquals(await getUsage(database.sql, "default", "2026-03-01", "2026-03-01"), [EXPECTED[1]!]);
  assertEquals(await getUsage(database.sql, "other", "2026-02-01", "2026-03-31"), []);
});

Deno.test("what is rolled back is not counted, and several that fold at once count each interval once", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  await database.transaction("crash", async (sql) => {
    await running(database, "2026-03-01T00:00:00Z");
    await sql`update sandboxes set state = 'lost', state_changed_at = '2026-03-01T10:00:00Z' where id = ${ID}`;
    throw new Error("crash");
  }).catch(() => {});
  await change(database, "lost", "2026-03-01T01:00:00Z");
  for (let n = 0; n < 40; n++) {
    const id = `b${n.toString().padStart(19, "0")}`;
    await running(database, "2026-03-01T01:00:00Z", id);
    await change(database, "failed", "2026-03-01T02:00:00Z", id);
  }
  const counts = await Promise.all(Array.from({ length: 8 }, async () => {
    let folded = 0;
    for (let n; (n = await foldUsage(database.sql, 3)) > 0;) folded += n;
    return folded;
  }));
  while (await foldUsage(database.sql, 100) > 0) counts.push(1);
  assert(counts.reduce((a, b) => a + b) <= 41, String(counts));
  const [only] = await getUsage(database.sql, "default", "2026-03-01", "2026-03-01");
  assertEquals(only!.vcpuSeconds, 41 * 2 * 3600);
});

Deno.test("what is under way counts up to now, and a ready snapshot for what it stores", async () => {
  await using test = await openTestDatabase();
  const { database } = test;
  const since = new Date(Date.now() - 3_600_000).toISOString();
  const date = new Date().toISOString().slice(0, 10);
  await running(database, since);
  await database.sql`
    insert into snapshots (id, team_id, name, kind, state, host_id, sandbox_id, template, vcpus, memory_mb, disk_size_mb,
      generation, size_bytes, memory_bytes, disk_bytes, pages_resident, pages_dirty, pages_data, stopped_us,
      state_changed_at)
    values (${
    "s".repeat(20)
  }, 'default', 's', 'named', 'ready', ${HOST}, ${ID}, 'base', 1, 1, 1, 1, 10, 0, 0, 0, 0, 0, 0,
      ${since}::timestamptz)`;
  const sums = (usage: UsageDay[]) => [
    usage.reduce((sum, one) => sum + one.vcpuSeconds, 0),
    usage.reduce((sum, one) => sum + one.snapshotByteSeconds, 0),
  ];
  const [vcpuSeconds, byteSeconds] = sums(await getUsage(database.sql, "default", "2000-01-01", "2999-12-31"));
  assert(vcpuSeconds! >= 7200 && vcpuSeconds! < 7200 + 600, String(vcpuSeconds));
  assert(byteSeconds! >= 36_000 && byteSeconds! < 39_000, String(byteSeconds));
  assert(day(await getUsage(database.sql, "default", date, date), date) !== undefined);
  await database.sql`
    update snapshots set state = 'deleting', state_changed_at = state_changed_at + interval '1 hour' where state = 'ready'`;
  assertEquals(sums(await getUsage(database.sql, "default", "2000-01-01", "2999-12-31"))[1], 36_000);
});
