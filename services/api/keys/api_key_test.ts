import { assert, assertEquals, assertFalse } from "@std/assert";
import { hashApiKey, isApiKey, newApiKey } from "./api_key.ts";

Deno.test("new keys have the form, do not repeat, and are found by their hash", async () => {
  const keys = await Promise.all(Array.from({ length: 100 }, newApiKey));
  assertEquals(new Set(keys.map(({ key }) => key)).size, 100);
  for (const { key, hash, prefix } of keys) {
    assert(isApiKey(key));
    assertEquals([hash.length, await hashApiKey(key)], [32, hash]);
    assertEquals(prefix, key.slice(0, 12));
  }
});

Deno.test("only text in the form of a key is one", () => {
  for (
    const odd of ["", "e2b_", `E2B_${"0".repeat(40)}`, `e2b_${"0".repeat(39)}`, `e2b_${"g".repeat(40)}`, "e2b_' or 1"]
  ) {
    assertFalse(isApiKey(odd));
  }
});
