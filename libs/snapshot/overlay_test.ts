import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TorporError } from "@torpor/errors";
import { decodeHeader } from "./decode_header.ts";
import { encodeHeader } from "./encode_header.ts";
import { extentAt, type ExtentTable, findExtent, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";
import { overlayTable, type PageRun } from "./overlay.ts";

const PAGES = 48;

/** What the guest does to a page between two pauses. */
type Change = { page: number; value: number };

/** A model of the store: each generation's file as one number per page. */
class Store {
  readonly files = new Map<string, number[]>();
  table: ExtentTable | undefined;
  generation = 0;

  /** Stores the pages of `memory` that `dirty` names (undefined: all), as the export does. */
  commit(memory: number[], dirty: Set<number> | undefined): void {
    const snapshotId = String.fromCharCode(97 + this.generation).repeat(20);
    const file: number[] = [];
    const runs: PageRun[] = [];
    for (let pageIndex = 0; pageIndex < PAGES; pageIndex++) {
      if (dirty && !dirty.has(pageIndex)) continue;
      const value = memory[pageIndex]!;
      const run: PageRun = { pageIndex, pageCount: 1, kind: value ? "data" : "zero", outputOffset: 0 };
      if (value) run.outputOffset = PAGE_BYTES * (file.push(value) - 1);
      runs.push(run);
    }
    this.files.set(snapshotId, file);
    this.generation++;
    const sizeBytes = PAGES * PAGE_BYTES;
    const next = { snapshotId, kind: "memory" as const, generation: this.generation, sizeBytes, runs };
    this.table = decodeHeader(encodeHeader(overlayTable(this.table, next)));
  }

  read(page: number): number {
    const table = this.table!;
    const offset = page * PAGE_BYTES;
    const extent = extentAt(table, findExtent(table, offset));
    if (extent.source === ZERO_SOURCE) return 0;
    const at = (extent.sourceOffset + offset - extent.offset) / PAGE_BYTES;
    return this.files.get(table.sources[extent.source]!)![at]!;
  }
}

const changes: fc.Arbitrary<Change[]> = fc.array(
  fc.record({ page: fc.nat(PAGES - 1), value: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 1e6 })) }),
  { maxLength: 30 },
);

Deno.test("chains of generations give back every page, also those zeroed since the parent", () => {
  fc.assert(
    fc.property(fc.array(changes, { minLength: 1, maxLength: 8 }), (generations) => {
      const memory = new Array<number>(PAGES).fill(0);
      const store = new Store();
      for (const [index, batch] of generations.entries()) {
        for (const { page, value } of batch) memory[page] = value;
        store.commit(memory, index === 0 ? undefined : new Set(batch.map((change) => change.page)));
        assertEquals(memory.map((_, page) => store.read(page)), memory);
      }
    }),
    { numRuns: 300 },
  );
});

const run = (pageIndex: number, pageCount: number, kind: "data" | "zero", outputOffset = 0): PageRun => ({
  pageIndex,
  pageCount,
  kind,
  outputOffset,
});

function table(parent: ExtentTable | undefined, snapshotId: string, runs: PageRun[]): ExtentTable {
  const generation = (parent?.generation ?? 0) + 1;
  return overlayTable(parent, { snapshotId, kind: "memory", generation, sizeBytes: 8 * PAGE_BYTES, runs });
}

Deno.test("a generation that nothing refers to any more is no source", () => {
  const [a, b, c] = ["a", "b", "c"].map((letter) => letter.repeat(20)) as [string, string, string];
  const first = table(undefined, a, [run(0, 4, "data"), run(4, 4, "zero")]);
  const second = table(first, b, [run(2, 2, "data")]);
  assertEquals(second.sources, [a, b]);
  const third = table(second, c, [run(0, 2, "zero")]);
  assertEquals(third.sources, [b]);
});

Deno.test("runs that touch are merged with each other and with inherited ones", () => {
  const first = table(undefined, "a".repeat(20), [run(0, 2, "zero"), run(2, 6, "zero")]);
  assertEquals(first.count, 1);
  const second = table(first, "b".repeat(20), [
    run(3, 2, "data"),
    run(5, 1, "data", 2 * PAGE_BYTES),
    run(6, 1, "zero"),
  ]);
  assertEquals([...second.lengths].map((bytes) => bytes / PAGE_BYTES), [3, 3, 2]);
});

Deno.test("an untouched parent is inherited whole", () => {
  const first = table(undefined, "a".repeat(20), [run(0, 4, "data"), run(4, 4, "zero")]);
  const second = table(first, "b".repeat(20), []);
  assertEquals([second.count, second.generation, second.sources], [2, 2, first.sources]);
});

Deno.test("runs that do not fit are refused", () => {
  const first = table(undefined, "a".repeat(20), [run(0, 8, "zero")]);
  const bad: [ExtentTable | undefined, PageRun[]][] = [
    [undefined, [run(0, 4, "data")]],
    [undefined, [run(1, 7, "data")]],
    [first, [run(4, 1, "zero"), run(3, 1, "zero")]],
    [first, [run(3, 2, "zero"), run(4, 1, "zero")]],
    [first, [run(7, 2, "data")]],
    [first, [run(0, 0, "data")]],
  ];
  for (const [parent, runs] of bad) {
    assertEquals(assertThrows(() => table(parent, "b".repeat(20), runs), TorporError).code, "internal");
  }
});

Deno.test("a lookup in a million extents takes microseconds", () => {
  const pages = 1_000_000;
  const runs = Array.from({ length: pages }, (_, page) => run(page, 1, page % 2 ? "zero" : "data", page * PAGE_BYTES));
  const big = overlayTable(undefined, {
    snapshotId: "a".repeat(20),
    kind: "memory",
    generation: 1,
    sizeBytes: pages * PAGE_BYTES,
    runs,
  });
  assertEquals(big.count, pages);
  const start = performance.now();
  for (let i = 0; i < 10_000; i++) assertEquals(findExtent(big, ((i * 7919) % pages) * PAGE_BYTES), (i * 7919) % pages);
  // A linear search would need half a million steps for each: minutes.
  assert(performance.now() - start < 5_000);
  assertThrows(() => findExtent(big, pages * PAGE_BYTES), RangeError);
  assertThrows(() => findExtent(big, -1), RangeError);
});
