import { assertEquals } from "@std/assert";
import { removedSince } from "./removed_since.ts";

function pagerOf(count: number, bits: number) {
  return { stats: () => ({ removedPages: count }), removedPages: () => new Uint8Array([bits]) };
}

Deno.test("only pages given back since then are named, and all when one was given back again", () => {
  const first = removedSince(pagerOf(3, 0b0111), undefined);
  assertEquals([...first.removed], [0b0111]);
  assertEquals([...removedSince(pagerOf(3, 0b0111), first.now).removed], [0]);
  assertEquals([...removedSince(pagerOf(5, 0b11111), first.now).removed], [0b11000]);
  // One of the first three again: which one is not known.
  assertEquals([...removedSince(pagerOf(4, 0b0111), first.now).removed], [0b0111]);
  assertEquals([...removedSince(pagerOf(6, 0b11111), first.now).removed], [0b11111]);
});
