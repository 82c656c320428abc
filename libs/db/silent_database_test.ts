import { assert, assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { DatabaseProxy } from "@torpor/testing/database_proxy";
import { openTestDatabase } from "@torpor/testing/postgres";
import { openDatabase } from "./mod.ts";

/** How long work takes until it is refused as `unavailable`, ms. */
async function refusedAfter(work: () => Promise<unknown>): Promise<{ ms: number; cause: unknown }> {
  const began = performance.now();
  const { code, cause } = await assertRejects(work, TorporError);
  assertEquals(code, "unavailable");
  return { ms: performance.now() - began, cause: (cause as { code?: unknown }).code };
}

Deno.test("all connections of the pool wait for a lock: who waits for one of them is refused in 5 s, and nothing was sent", async () => {
  await using test = await openTestDatabase();
  await using database = openDatabase(test.url, { maxConnections: 2 });
  await test.database.sql`create table rows (n int not null)`;
  const freed = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<void>();
  const holder = test.database.transaction("holder", async (sql) => {
    await sql`lock table rows`;
    locked.resolve();
    await freed.promise;
  });
  await locked.promise;
  // As many as there are connections. The server gives them up after 10 s.
  const writers = [1, 2].map((n) =>
    refusedAfter(() => database.transaction("writer", async (sql) => void await sql`insert into rows values (${n})`))
  );
  const queued = [
    () => database.transaction("queued", async (sql) => void await sql`insert into rows values (3)`),
    () => database.checkReady(),
  ];
  const refusals = await Promise.all(queued.map(refusedAfter));
  for (const { ms, cause } of refusals) {
    assertEquals(cause, "QUEUE_TIMEOUT");
    assert(ms >= 4_900 && ms < 7_500, `${ms} ms`);
  }
  await Promise.all(writers);
  freed.resolve();
  await holder;
  await database.transaction("writer", async (sql) => void await sql`insert into rows values (4)`);
  assertEquals([...await database.sql`select n from rows`], [{ n: 4 }]);
});

Deno.test("a server that says nothing any more: unavailable for all that was asked, and the pool goes on when it speaks", async () => {
  await using test = await openTestDatabase();
  await using proxy = await DatabaseProxy.start(test.url);
  await using database = openDatabase(proxy.url, { maxConnections: 2 });
  await database.checkReady();
  const stalled = proxy.stall();
  const works = Array.from({ length: 4 }, () => refusedAfter(() => database.checkReady()));
  const transaction = refusedAfter(() => database.transaction("silent", async (sql) => void await sql`select 1`));
  for (const { ms } of await Promise.all([...works, transaction])) assert(ms < 15_000, `${ms} ms`);
  stalled[Symbol.dispose]();
  await database.checkReady();
});
