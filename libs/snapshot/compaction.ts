import { type ExtentTable, ExtentTableBuilder, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";

/** Bytes of a source that are to be copied into the compacted file. */
export interface LiveRange {
  source: string;
  sourceOffset: number;
  /** Place in the compacted file, bytes. */
  targetOffset: number;
  length: number;
}

/** How some sources of some tables become one file. */
export interface Compaction {
  /** What to copy, in the order of the compacted file, which it fills without gaps. */
  ranges: LiveRange[];
  /** Size of the compacted file. */
  bytes: number;
  /** The tables in the order given; they read the same bytes, from the compacted file where they read a source that goes. */
  tables: ExtentTable[];
}

/**
 * Plans the copying together of everything that `tables` read of `sources`. A page that several tables read is copied
 * once. The bytes lie in the order in which the first table has them, so that a guest that reads in order reads the file in
 * order. Time and memory follow the number of pages.
 * @param target the snapshot id that the compacted file is to have.
 */
export function planCompaction(
  tables: readonly ExtentTable[],
  sources: ReadonlySet<string>,
  target: string,
): Compaction {
  const places = new Map<string, PagePlaces>();
  const ranges: LiveRange[] = [];
  let bytes = 0;
  const place = (source: string, page: number): number => {
    let pages = places.get(source);
    if (!pages) places.set(source, pages = new PagePlaces());
    const known = pages.get(page);
    if (known >= 0) return known * PAGE_BYTES;
    const targetOffset = bytes;
    pages.set(page, targetOffset / PAGE_BYTES);
    append(ranges, { source, sourceOffset: page * PAGE_BYTES, targetOffset, length: PAGE_BYTES });
    bytes += PAGE_BYTES;
    return targetOffset;
  };
  const rewritten = tables.map((table) => rewrite(table, sources, target, place));
  return { ranges, bytes, tables: rewritten };
}

function rewrite(
  table: ExtentTable,
  sources: ReadonlySet<string>,
  target: string,
  place: (source: string, page: number) => number,
): ExtentTable {
  const builder = new ExtentTableBuilder(table.kind, table.generation);
  for (let index = 0; index < table.count; index++) {
    const length = table.lengths[index]!;
    const number = table.sourceIndexes[index]!;
    if (number === ZERO_SOURCE) {
      builder.addZero(length);
      continue;
    }
    const source = table.sources[number]!;
    const sourceOffset = table.sourceOffsets[index]!;
    if (!sources.has(source)) {
      builder.addData(length, source, sourceOffset);
      continue;
    }
    for (let at = 0; at < length; at += PAGE_BYTES) {
      builder.addData(PAGE_BYTES, target, place(source, (sourceOffset + at) / PAGE_BYTES));
    }
  }
  return builder.build();
}

function append(ranges: LiveRange[], range: LiveRange): void {
  const last = ranges.at(-1);
  // The target always continues: only the source can jump.
  if (last && last.source === range.source && last.sourceOffset + last.length === range.sourceOffset) {
    last.length += range.length;
  } else {
    ranges.push(range);
  }
}

/** Where pages of one source are in the compacted file, as page numbers; -1: not there yet. */
class PagePlaces {
  #places = new Int32Array(1024).fill(-1);

  get(page: number): number {
    return page < this.#places.length ? this.#places[page]! : -1;
  }

  set(page: number, place: number): void {
    if (page >= this.#places.length) {
      const larger = new Int32Array(Math.max(page + 1, 2 * this.#places.length)).fill(-1);
      larger.set(this.#places);
      this.#places = larger;
    }
    this.#places[page] = place;
  }
}
