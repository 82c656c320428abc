import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { planCompaction } from "./compaction.ts";
import { decodeHeader } from "./decode_header.ts";
import { encodeHeader } from "./encode_header.ts";
import { type ExtentTable, ExtentTableBuilder, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";
import { sourceUsage } from "./source_usage.ts";

const TARGET = "t".repeat(20);
const idOf = (source: number) => "abcd"[source]!.repeat(20);

/** Tables of the same size that read four sources here and there, also the same bytes. */
const anyTables: fc.Arbitrary<ExtentTable[]> = fc.array(
  fc.array(fc.record({ pages: fc.integer({ min: 1, max: 6 }), source: fc.nat(4), at: fc.nat(40) }), {
    minLength: 1,
    maxLength: 15,
  }),
  { minLength: 1, maxLength: 3 },
).map((tables) =>
  tables.map((parts, generation) => {
    const builder = new ExtentTableBuilder("memory", generation + 1);
    for (const { pages, source, at } of parts) {
      if (source === 4) builder.addZero(pages * PAGE_BYTES);
      else builder.addData(pages * PAGE_BYTES, idOf(source), at * PAGE_BYTES);
    }
    return builder.build();
  })
);

/** What each page of a table is: source and page within it. The model of its bytes. */
function pagesOf(table: ExtentTable, resolve: (source: string, page: number) => string): string[] {
  const pages: string[] = [];
  for (let index = 0; index < table.count; index++) {
    for (let at = 0; at < table.lengths[index]!; at += PAGE_BYTES) {
      const number = table.sourceIndexes[index]!;
      const page = (table.sourceOffsets[index]! + at) / PAGE_BYTES;
      pages.push(number === ZERO_SOURCE ? "zero" : resolve(table.sources[number]!, page));
    }
  }
  return pages;
}

const plain = (source: string, page: number) => `${source}:${page}`;

Deno.test("compacted tables read the same bytes, each stored once", () => {
  fc.assert(fc.property(anyTables, fc.subarray([0, 1, 2, 3]), (tables, chosen) => {
    const sources = new Set(chosen.map(idOf));
    const { ranges, bytes, tables: rewritten } = planCompaction(tables, sources, TARGET);
    const compacted: string[] = [];
    for (const { source, sourceOffset, targetOffset, length } of ranges) {
      assertEquals(targetOffset, compacted.length * PAGE_BYTES);
      for (let at = 0; at < length; at += PAGE_BYTES) compacted.push(plain(source, (sourceOffset + at) / PAGE_BYTES));
    }
    assertEquals([compacted.length * PAGE_BYTES, new Set(compacted).size], [bytes, compacted.length]);
    const read = (source: string, page: number) => source === TARGET ? compacted[page]! : plain(source, page);
    tables.forEach((table, index) => {
      const after = decodeHeader(encodeHeader(rewritten[index]!));
      assertEquals(pagesOf(after, read), pagesOf(table, plain));
      assertEquals([after.generation, after.sizeBytes], [table.generation, table.sizeBytes]);
      assertEquals(after.sources.some((source) => sources.has(source)), false);
    });
  }));
});

Deno.test("usage counts each byte of a source once, whoever reads it", () => {
  fc.assert(fc.property(anyTables, (tables) => {
    const pages = new Set(tables.flatMap((table) => pagesOf(table, plain)));
    pages.delete("zero");
    const usage = sourceUsage(tables);
    let live = 0;
    for (const { liveBytes } of usage.values()) live += liveBytes;
    assertEquals(live, pages.size * PAGE_BYTES);
    const read = tables.flatMap(({ sourceIndexes }) => [...sourceIndexes]).filter((number) => number !== ZERO_SOURCE);
    assertEquals([...usage.values()].reduce((sum, { extents }) => sum + extents, 0), read.length);
  }));
});
