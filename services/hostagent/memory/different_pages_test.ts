import { assertEquals } from "@std/assert";
import { type ExtentTable, ExtentTableBuilder, PAGE_BYTES } from "@torpor/snapshot";
import { dataPages, differentPages } from "./different_pages.ts";

const [A, B] = ["a".repeat(20), "b".repeat(20)];

/** One letter per page: a, b with the page's number as its place, A like a but elsewhere, 0 for zeros. */
function tableOf(pages: string, sources: [string, string] = [A, B]): ExtentTable {
  const builder = new ExtentTableBuilder("memory", 1);
  for (const [page, letter] of [...pages].entries()) {
    if (letter === "0") builder.addZero(PAGE_BYTES);
    else if (letter === "A") builder.addData(PAGE_BYTES, sources[0], (1000 + page) * PAGE_BYTES);
    else builder.addData(PAGE_BYTES, sources[letter === "a" ? 0 : 1], page * PAGE_BYTES);
  }
  return builder.build();
}

function inWords(bitmap: Uint8Array, count: number): string {
  return Array.from({ length: count }, (_, page) => bitmap[page >> 3]! >> (page & 7) & 1).join("");
}

Deno.test("pages differ by source, by place in it, and by being zero", () => {
  const [one, other] = [tableOf("aaab000Aab0b"), tableOf("aabb00aaa0bb")];
  assertEquals(inWords(differentPages(one, other), 12), "001000110110");
  assertEquals(inWords(differentPages(other, one), 12), "001000110110");
  assertEquals(inWords(differentPages(one, one), 12), "000000000000");
  assertEquals(inWords(dataPages(one), 12), "111100011101");
});

Deno.test("sources are compared by their ids, not by their numbers", () => {
  const [one, other] = [tableOf("bbaa"), tableOf("aabb", [B, A])];
  assertEquals(one.sources, [B, A]);
  assertEquals(other.sources, [B, A]);
  assertEquals(inWords(differentPages(one, other), 4), "0000");
  assertEquals(inWords(differentPages(one, tableOf("aabb")), 4), "1111");
});
