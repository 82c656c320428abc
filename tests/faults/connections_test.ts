import { assert, assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";
import { delay } from "./delay.ts";
import { Load } from "./load.ts";
import { PERIOD_MS, Plane } from "./plane.ts";
import { assertNothingLost, periodsUntilRest } from "./rest.ts";

/** Whose sessions are ended: any, that by whose lock the reconciler leads, those that show that an api lives. */
const VICTIMS = {
  any: "random() < 0.5",
  leader: "application_name = 'reconciler' and pid in (select pid from pg_locks where locktype = 'advisory')",
  owners: "application_name = 'api' and pid in (select pid from pg_locks where locktype = 'advisory')",
};

Deno.test("connections to PostgreSQL are cut under load: everybody connects again, nothing is lost", async () => {
  await using test = await openTestDatabase();
  await using plane = await Plane.start({ databaseUrl: test.url, apis: 2, reconcilers: 2, hosts: 2 });
  const pids = await plane.pids();
  const load = new Load(plane, 8);
  await load.goesOn(20);
  let cut = 0;
  for (const victims of [VICTIMS.any, VICTIMS.leader, VICTIMS.owners, VICTIMS.any]) {
    const ended = await plane.database.sql.unsafe(`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name in ('api', 'scheduler', 'reconciler') and ${victims}`);
    assert(ended.length > 0, `nobody is ${victims}`);
    cut += ended.length;
    await load.goesOn(20);
  }
  await load.abandon();
  const periods = await periodsUntilRest(plane, 10);
  console.log(`faults_cut ${JSON.stringify({ cut, ...load.counts, periods })}`);
  assert(periods <= 2, `${periods} periods until rest`);
  await assertNothingLost(plane, load);
  await delay(2 * PERIOD_MS);
  assert(await plane.leader() !== undefined, "nobody leads");
  assertEquals(await plane.pids(), pids, "no service has died");
});

Deno.test("a lock that nobody frees, and a pool that it exhausts: 503 in time, and then it goes on", async () => {
  await using test = await openTestDatabase();
  await using plane = await Plane.start({ databaseUrl: test.url });
  const { sandbox_id: id } = await plane.demand("POST", "/v1/sandboxes");
  const path = `/v1/sandboxes/${id}`;
  const locked = Promise.withResolvers<void>();
  const freed = Promise.withResolvers<void>();
  const holder = plane.database.sql.begin(async (sql) => {
    await sql`set local idle_in_transaction_session_timeout = 0`;
    await sql`select from sandboxes where id = ${id} for update`;
    locked.resolve();
    await freed.promise;
  });
  await locked.promise;
  const began = performance.now();
  // As many as the pool has connections.
  const pauses = Array.from({ length: 10 }, () => plane.call("POST", `${path}/pause`));
  const others = Array.from({ length: 3 }, () => plane.call("GET", "/v1/sandboxes"));
  const answers = await Promise.all(pauses);
  const readers = await Promise.all(others);
  const tookMs = Math.round(performance.now() - began);
  freed.resolve();
  await holder;
  console.log(`faults_locked ${JSON.stringify({ tookMs })}`);
  assertEquals(new Set(answers.map(({ status }) => status)), new Set([503]));
  for (const { status, retryAfter } of [...answers, ...readers]) {
    assert(status === 200 || status === 503 && Number(retryAfter) > 0, `${status}, Retry-After ${retryAfter}`);
  }
  assert(tookMs < 15_000, `answered after ${tookMs} ms`);
  assertEquals((await plane.demand("POST", `${path}/pause`)).state, "paused");
});
