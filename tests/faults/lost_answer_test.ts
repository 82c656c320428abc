import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDatabase } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { Lifecycle } from "@torpor/lifecycle";
import { DatabaseProxy } from "@torpor/testing/database_proxy";
import { ControlPlane, SPEC, TEAM } from "../integration/control/control_plane.ts";
import { delay } from "./delay.ts";

/** Far less than any deadline of an operation, and more than a look for strays and a pass take, ms. */
const AT_ONCE_MS = 15_000;

/** A lifecycle whose connections to the database lose answers. */
async function behindProxy(plane: ControlPlane) {
  await using stack = new AsyncDisposableStack();
  const proxy = stack.use(await DatabaseProxy.start(plane.test.url));
  const database = stack.use(openDatabase(proxy.url));
  const { scheduler, hosts } = plane;
  const lifecycle = stack.use(new Lifecycle({ database, scheduler, hosts: (address) => hosts.at(address) }));
  const moved = stack.move();
  return { proxy, lifecycle, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** Passes of a reconciler until nothing is open. @returns what they have repaired. */
async function repairsUntilRest(plane: ControlPlane, pass: () => Promise<string[]>): Promise<string[]> {
  const until = performance.now() + AT_ONCE_MS;
  const repairs: string[] = [];
  for (;;) {
    repairs.push(...await pass());
    const [open] = await plane.database.sql<{ count: number }[]>`
      select count(*)::int from (
        select from operations where state = 'running' union all select from forks where state = 'running') as open`;
    if (open!.count === 0) return repairs;
    assert(performance.now() < until, "operations whose begin was not answered stay open");
    await delay(100);
  }
}

const unavailable = (work: () => Promise<unknown>) =>
  assertRejects(work, TorporError).then(({ code }) => assertEquals(code, "unavailable"));

Deno.test("the answer to a begin is lost, the process and its lock live: the reconciler settles it at once", async (t) => {
  await using plane = await ControlPlane.start();
  await using reconciler = await plane.startReconciler();
  await using cut = await behindProxy(plane);
  // All statements are prepared, so that what names the sandbox is what carries the step out.
  const { id } = await cut.lifecycle.createSandbox(TEAM, SPEC);
  await cut.lifecycle.pauseSandbox(TEAM, id);
  await cut.lifecycle.resumeSandbox(TEAM, id);
  const owner = await ownersOfLocks(plane);

  await t.step("a begin in one statement", async () => {
    const lost = cut.proxy.cutAnswerTo(id);
    await unavailable(() => cut.lifecycle.pauseSandbox(TEAM, id));
    await lost;
    assertEquals((await plane.sandbox(id)).state, "pausing", "the begin was not committed");
    assertEquals(await repairsUntilRest(plane, reconciler.pass), ["operation_rolled_back pausing>running"]);
  });

  await t.step("a begin in a transaction", async () => {
    const lost = cut.proxy.cutAnswerTo("commit");
    await unavailable(() => cut.lifecycle.pauseSandbox(TEAM, id, { idempotencyKey: "one" }));
    await lost;
    assertEquals((await plane.sandbox(id)).state, "pausing");
    assertEquals(await repairsUntilRest(plane, reconciler.pass), ["operation_rolled_back pausing>running"]);
  });

  await t.step("a fork", async () => {
    const lost = cut.proxy.cutAnswerTo("commit");
    await unavailable(() => cut.lifecycle.forkSandbox(TEAM, id, { count: 2 }));
    await lost;
    const repairs = await repairsUntilRest(plane, reconciler.pass);
    assert(repairs.includes("operation_rolled_back snapshotting>running"), repairs.join());
    assertEquals((await plane.sandbox(id)).state, "running");
  });

  assertEquals(await ownersOfLocks(plane), owner, "a lock was lost: then the reconciler takes over in any case");
  assertEquals((await cut.lifecycle.pauseSandbox(TEAM, id)).state, "paused");
});

/** The advisory locks that show which processes live. */
async function ownersOfLocks(plane: ControlPlane): Promise<string[]> {
  const rows = await plane.database.sql<{ lock: string }[]>`
    select classid || ':' || objid || ':' || pid as lock from pg_locks
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
    order by 1`;
  return rows.map(({ lock }) => lock);
}
