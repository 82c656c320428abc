import { assertEquals } from "@std/assert";
import { ControlPlane, TEAM } from "./control_plane.ts";

// Sandboxes whose time has come. The clock is the database's, so the tests move the rows' times instead of waiting.

/** Lets every sandbox look as if all that happened to it had happened that much earlier. */
async function age(plane: ControlPlane, interval: string): Promise<void> {
  await plane.database.sql`
    update sandboxes set last_active_at = last_active_at - ${interval}::interval,
      paused_at = paused_at - ${interval}::interval, expires_at = expires_at - ${interval}::interval`;
}

/** A pass, and the ends of the operations that it has begun. */
async function sweep(plane: ControlPlane, pass: () => Promise<string[]>): Promise<string[]> {
  const repairs = await pass();
  for (;;) {
    const [row] = await plane.database.sql<{ count: number }[]>`
      select count(*)::int as count from operations where state = 'running'`;
    if (row!.count === 0) return repairs;
  }
}

Deno.test("paused for longer than auto_delete_after: deleted; others stay", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const stale = await plane.create({ autoDeleteAfterSec: 60 });
  const patient = await plane.create({ autoDeleteAfterSec: 3600 });
  const never = await plane.create();
  const runs = await plane.create({ autoDeleteAfterSec: 60 });
  for (const { id } of [stale, patient, never]) await plane.lifecycle.pauseSandbox(TEAM, id);
  assertEquals(await sweep(plane, reconciler.pass), []);
  await age(plane, "10 minutes");
  assertEquals(await sweep(plane, reconciler.pass), ["stale_deleted paused>deleting"]);
  const states = await Promise.all(
    [stale, patient, never, runs].map(async ({ id }) => (await plane.sandbox(id)).state),
  );
  assertEquals(states, ["deleted", "paused", "paused", "running"]);
  assertEquals(plane.host.sandboxes.has(stale.id), false);
  assertEquals((await reconciler.client.getStatus({})).repairsByKind, { stale_deleted: 1n });
});

Deno.test("a time to live that ends in a deletion counts from the creation, whatever the sandbox does", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const [runs, sleeps] = [
    await plane.create({ ttlSec: 60, onTtl: "delete" }),
    await plane.create({ ttlSec: 60, onTtl: "delete" }),
  ];
  await plane.lifecycle.pauseSandbox(TEAM, sleeps.id);
  await plane.lifecycle.pauseSandbox(TEAM, runs.id);
  const resumed = await plane.lifecycle.resumeSandbox(TEAM, runs.id);
  assertEquals(resumed.expiresAt, runs.expiresAt);
  assertEquals(await sweep(plane, reconciler.pass), []);
  await age(plane, "2 minutes");
  const repairs = await sweep(plane, reconciler.pass);
  assertEquals(repairs.sort(), ["ttl_expired paused>deleting", "ttl_expired running>deleting"]);
  assertEquals([(await plane.sandbox(runs.id)).state, (await plane.sandbox(sleeps.id)).state], ["deleted", "deleted"]);
});

Deno.test("a time to live that ends in a pause begins again with each resume", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id, expiresAt } = await plane.create({ ttlSec: 60, onTtl: "pause" });
  await age(plane, "2 minutes");
  assertEquals(await sweep(plane, reconciler.pass), ["ttl_expired running>pausing"]);
  const paused = await plane.sandbox(id);
  assertEquals([paused.state, paused.expiresAt], ["paused", null]);
  await age(plane, "1 day");
  assertEquals(await sweep(plane, reconciler.pass), []);
  const resumed = await plane.lifecycle.resumeSandbox(TEAM, id);
  assertEquals(resumed.expiresAt! >= expiresAt!, true);
  assertEquals(await sweep(plane, reconciler.pass), []);
  assertEquals((await plane.sandbox(id)).state, "running");
});

Deno.test("busy is not idle: activity that the host reports moves the timeout", async () => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  const { id } = await plane.create({ timeoutSec: 60 });
  plane.host.sandboxes.get(id)!.lastActiveAtUnix = Math.floor(Date.now() / 1000) + 1;
  await age(plane, "10 minutes");
  await reconciler.pass();
  await reconciler.pass();
  assertEquals((await plane.sandbox(id)).state, "running");
});

Deno.test("sweeps read what is due, by an index", async () => {
  await using plane = await ControlPlane.start();
  const plans = await plane.database.sql.begin(async (sql) => {
    await sql`set local enable_seqscan = off`;
    const explain = async (query: ReturnType<typeof sql>) =>
      (await sql<{ "QUERY PLAN": string }[]>`explain ${query}`).map((row) => Object.values(row)[0]).join("\n");
    return [
      await explain(sql`select from sandboxes where state = 'running' and timeout_sec > 0
        and (last_active_at at time zone 'UTC') + timeout_sec * interval '1 second' < now() at time zone 'UTC'`),
      await explain(sql`select from sandboxes where state = 'paused' and auto_delete_after_sec > 0
        and (paused_at at time zone 'UTC') + auto_delete_after_sec * interval '1 second' < now() at time zone 'UTC'`),
      await explain(sql`select from sandboxes where expires_at is not null and state not in ('deleting', 'deleted')
        and expires_at < now()`),
    ];
  });
  const used = plans.map((plan) => /Index Cond: .*</.test(plan) && /sandboxes_(idle|stale|expiry)/.exec(plan)?.[1]);
  assertEquals(used, ["idle", "stale", "expiry"]);
});
