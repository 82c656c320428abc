import { assertEquals, assertNotEquals } from "@std/assert";
import { requestHash } from "./idempotency.ts";

Deno.test("a request's hash does not depend on the order of fields, and on everything else", async () => {
  const hash = await requestHash("create", { a: 1, b: { c: [1, 2], d: undefined } });
  assertEquals(hash.length, 32);
  assertEquals(await requestHash("create", { b: { c: [1, 2] }, a: 1 }), hash);
  for (const [verb, body] of [["pause", { a: 1, b: { c: [1, 2] } }], ["create", { a: 1, b: { c: [2, 1] } }]] as const) {
    assertNotEquals(await requestHash(verb, body), hash);
  }
});
