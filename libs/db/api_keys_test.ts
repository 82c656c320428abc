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
  assertEquals(await revokeApiKey(sql, "other", key.id), false);
  assertEquals(await revokeApiKey(sql, "default", key.id), true);
  assertEquals((await listApiKeys(sql, "default"))[0]!.revokedAt !== null, true);
});
