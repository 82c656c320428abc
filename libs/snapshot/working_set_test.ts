import { assertEquals } from "@std/assert";
import { decodeWorkingSet, encodeWorkingSet, mergeWorkingSets } from "./working_set.ts";

const MEMORY = 2 ** 20;
const PAGES = Uint32Array.of(7, 255, 0, 31);

Deno.test("a working set is read as it was written", () => {
  assertEquals(decodeWorkingSet(encodeWorkingSet(PAGES, MEMORY), MEMORY), PAGES);
  assertEquals(decodeWorkingSet(encodeWorkingSet(new Uint32Array(), MEMORY), MEMORY), new Uint32Array());
});

Deno.test("a working set with any byte changed, cut off, of other memory or with a page outside is none", () => {
  const good = encodeWorkingSet(PAGES, MEMORY);
  for (let at = 0; at < good.length; at++) {
    const bad = good.slice();
    bad[at]! ^= 0x41;
    assertEquals(decodeWorkingSet(bad, MEMORY), undefined, `byte ${at}`);
    assertEquals(decodeWorkingSet(good.subarray(0, at), MEMORY), undefined, `length ${at}`);
  }
  assertEquals(decodeWorkingSet(good, 2 * MEMORY), undefined);
  assertEquals(decodeWorkingSet(encodeWorkingSet(Uint32Array.of(256), MEMORY), MEMORY), undefined);
});

Deno.test("what faulted comes first, each page once, and no more than the limit", () => {
  const merged = mergeWorkingSets(Uint32Array.of(5, 9, 5), Uint32Array.of(9, 1, 2), 4);
  assertEquals(merged, Uint32Array.of(5, 9, 1, 2));
  assertEquals(mergeWorkingSets(Uint32Array.of(5, 9), Uint32Array.of(1, 2), 3), Uint32Array.of(5, 9, 1));
});
