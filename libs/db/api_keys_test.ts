import { assertEquals } from "@std/assert";
import { openTestDatabase } from "@torpor/testing/postgres";
import { findApiKey, insertApiKey, listApiKeys, revokeApiKey, touchApiKeys } from "./mod.ts";

Deno.test("API keys are found by their hash, used, listed and revoked", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const keyHash = crypto.getRandomValues(new Uint8Array(32));
  const key = await insertApiKey(sql, { teamId: "default", name: "first", keyHash, prefix: "e2b_ab" });
  assertEquals((await findApiKey(sql, keyHash))?.id, key.id);
  assertEquals(await findApiKey(sql, new Uint8Array(32)), undefined);
  await touchApiKeys(sql, [key.id]);
  const used = (await findApiKey(sql, keyHash))!.lastUsedAt;
  await touchApiKeys(sql, [key.id]);
  assertEquals((await findApiKey(sql, keyHash))!.lastUsedAt, used);
  assertEquals((await findApiKey(sql, keyHash))!.noted, true);
  await sql`update api_keys set last_used_at = last_used_at - interval '61 seconds'`;
  assertEquals((await findApiKey(sql, keyHash))!.noted, false);
  await touchApiKeys(sql, [key.id]);
  assertEquals((await findApiKey(sql, keyHash))!.lastUsedAt! >= used!, true);
  assertEquals(await revokeApiKey(sql, "other", key.id), false);
  assertEquals(await revokeApiKey(sql, "default", key.id), true);
  assertEquals((await listApiKeys(sql, "default"))[0]!.revokedAt !== null, true);
});

Deno.test("a key expires by PostgreSQL's clock, whatever this process's says", async () => {
  await using test = await openTestDatabase();
  const { sql } = test.database;
  const real = Date.now;
  using _clock = { [Symbol.dispose]: () => void (Date.now = real) };
  for (const hours of [-24, 0, 24]) {
    Date.now = () => real() + hours * 3_600_000;
    const keyHash = crypto.getRandomValues(new Uint8Array(32));
    const row = await insertApiKey(sql, { teamId: "default", name: "k", keyHash, prefix: "e2b_ab", expiresInSec: 60 });
    assertEquals(row.expiresAt!.getTime() - row.createdAt.getTime(), 60_000);
    assertEquals((await findApiKey(sql, keyHash))!.expired, false);
    await sql`update api_keys set expires_at = clock_timestamp() - interval '1 ms' where id = ${row.id}`;
    assertEquals((await findApiKey(sql, keyHash))!.expired, true);
  }
});
