import { assertEquals, assertRejects } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { openTestDatabase } from "@torpor/testing/postgres";
import { migrate, newestMigration, openDatabase } from "./mod.ts";

Deno.test("concurrent starts migrate once", async () => {
  await using test = await openTestDatabase({ migrated: false });
  const applied = await Promise.all(Array.from({ length: 5 }, () => migrate(test.database)));
  assertEquals(applied.flat().at(-1), newestMigration());
  assertEquals(applied.filter((names) => names.length > 0).length, 1);
  assertEquals(await migrate(test.database), []);
});

Deno.test("a server that is not there is unavailable", async () => {
  await using database = openDatabase("postgres://torpor@localhost/torpor?host=/nonexistent");
  const error = await assertRejects(() => database.checkReady(), TorporError);
  assertEquals(error.code, "unavailable");
});
