import { assert, assertEquals, assertRejects } from "@std/assert";
import { asTorporError, TorporError } from "@torpor/errors";
import { openTestDatabase, type TestDatabase } from "@torpor/testing/postgres";
import { AdvisoryLock, type Database, openDatabase, OperationFeed } from "./mod.ts";

// Connections end at any moment. That is an error of what used them, and nothing else: no error without a caller (Deno
// ends a process for it, and so fails these tests), no query that waits for ever, no half of a transaction.

/** How often all connections are cut in the first test. Each cut meets others of the statements below. */
const CUTS = 12;

Deno.test("connections are cut again and again: every caller gets an error, and nobody else", async () => {
  await using test = await openTestDatabase();
  await test.database.sql`create table pairs (half int not null, names text[])`;
  const cutting = { goesOn: true };
  const codes = new Set<string>();
  let done = 0;
  const keepDoing = async (work: () => Promise<unknown>) => {
    while (cutting.goesOn) {
      try {
        await work();
        done++;
      } catch (thrown) {
        codes.add(asTorporError(thrown).code);
      }
      // Lets the cuts have their turn.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const works = Object.values(worksOn(test)).flatMap((work) => [keepDoing(work), keepDoing(work)]);
  for (let cut = 0; cut < CUTS; cut++) await test.terminateConnections();
  cutting.goesOn = false;
  await Promise.all(works);
  assertEquals([...codes], ["unavailable"]);
  assert(done > 0);
  await answers(test.database);
  const rows = await test.database.sql<{ half: number; count: number }[]>`
    select half, count(*)::int from pairs group by half order by half`;
  assertEquals(rows[0]?.count, rows[1]?.count, "half of a transaction was committed");
});

/** What services do with connections. */
function worksOn({ database, url }: TestDatabase): Record<string, () => Promise<unknown>> {
  return {
    query: () => database.checkReady(),
    transaction: () =>
      database.transaction("pair", async (sql) => {
        await sql`insert into pairs values (1, ${["a"]})`;
        // A task of its own: the connection can end while no statement is under way.
        await new Promise((resolve) => setTimeout(resolve, 1));
        await sql`insert into pairs values (2, ${["b"]})`;
      }),
    leadership: async () => {
      await using lock = await AdvisoryLock.tryAcquire(database, 1n);
      // Lost between the two: the same to its holder.
      await lock?.verify().catch((thrown) => {
        if (asTorporError(thrown).code !== "not_leader") throw thrown;
      });
    },
    pool: async () => {
      await using pool = openDatabase(url, { maxConnections: 1 });
      await pool.checkReady();
    },
    listen: async () => {
      await using feed = new OperationFeed(database);
      await feed.waitForOperation("none", 10, 10).catch((thrown) => {
        if (asTorporError(thrown).code !== "operation_not_found") throw thrown;
      });
    },
  };
}

Deno.test("a transaction whose connection is lost between two statements commits none of them", async () => {
  await using test = await openTestDatabase();
  await using database = openDatabase(test.url, { maxConnections: 1 });
  await database.sql`create table halves (half int not null)`;
  const { promise: workEnded, resolve: endWork } = Promise.withResolvers<unknown>();
  const transaction = assertRejects(() =>
    database.transaction("halves", async (sql) => {
      await sql`insert into halves values (1)`;
      await test.terminateConnections();
      // The pool's only connection is a new session now, without a transaction.
      await answers(database);
      const second = sql`insert into halves values (2)`.then(() => "written", (error) => error.code);
      endWork(await second);
      await second;
    }), TorporError);
  assertEquals((await transaction).code, "unavailable");
  assertEquals(await workEnded, "CONNECTION_CLOSED");
  assertEquals([...await database.sql`select half from halves`], []);
});

Deno.test("a connection that is lost while it commits: unavailable, and the pool goes on", async () => {
  await using test = await openTestDatabase();
  await using database = openDatabase(test.url, { maxConnections: 1 });
  await database.sql.unsafe(`
    create table slow (n int not null);
    create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(600); return null; end';
    create constraint trigger wait after insert on slow deferrable initially deferred for each row execute function wait()`);
  const committing = assertRejects(
    () => database.transaction("slow", async (sql) => void await sql`insert into slow values (1)`),
    TorporError,
  );
  await seen(test.database, "wait_event = 'PgSleep' and query ilike 'commit%'");
  await test.terminateConnections();
  assertEquals((await committing).code, "unavailable");
  await answers(database);
  assertEquals([...await database.sql`select n from slow`], []);
});

Deno.test("a feed whose connection is cut listens again", async () => {
  await using test = await openTestDatabase();
  await using feed = new OperationFeed(test.database);
  const missing = () => assertRejects(() => feed.waitForOperation("none", 60_000, 60_000), TorporError);
  assertEquals((await missing()).code, "operation_not_found");
  for (let time = 0; time < 3; time++) {
    await test.terminateConnections();
    await answers(test.database);
    await seen(test.database, "query ilike 'listen %'");
  }
  assertEquals((await missing()).code, "operation_not_found");
});

/** Waits until the pool has taken notice of its losses and answers. */
async function answers(database: Database): Promise<void> {
  for (;;) {
    try {
      return await database.checkReady();
    } catch (thrown) {
      if (asTorporError(thrown).code !== "unavailable") throw thrown;
    }
  }
}

/** Waits until another session of the database does what the condition on pg_stat_activity says. */
async function seen(database: Database, condition: string): Promise<void> {
  for (;;) {
    const rows = await database.sql.unsafe(
      `select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and ${condition}`,
    );
    if (rows.length > 0) return;
  }
}
