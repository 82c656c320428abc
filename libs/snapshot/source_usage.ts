import { type ExtentTable, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";

/** What tables read of one source. */
export interface SourceUsage {
  /** Bytes of the source that at least one table reads. */
  liveBytes: number;
  /** Extents that refer to it, of all tables. */
  extents: number;
}

/** What one or more tables read of each of their sources, by snapshot id. A byte that several read counts once. */
export function sourceUsage(tables: readonly ExtentTable[]): Map<string, SourceUsage> {
  const pages = new Map<string, PageSet>();
  const usage = new Map<string, SourceUsage>();
  for (const table of tables) {
    for (let index = 0; index < table.count; index++) {
      const number = table.sourceIndexes[index]!;
      if (number === ZERO_SOURCE) continue;
      const source = table.sources[number]!;
      const entry = usage.get(source) ?? { liveBytes: 0, extents: 0 };
      const seen = pages.get(source) ?? new PageSet();
      usage.set(source, entry);
      pages.set(source, seen);
      entry.extents++;
      entry.liveBytes += PAGE_BYTES *
        seen.add(table.sourceOffsets[index]! / PAGE_BYTES, table.lengths[index]! / PAGE_BYTES);
    }
  }
  return usage;
}

/** A set of page numbers that grows: one byte per page. */
class PageSet {
  #seen = new Uint8Array(1024);

  /** Adds a run and returns how many of its pages are new. */
  add(first: number, count: number): number {
    if (first + count > this.#seen.length) {
      const larger = new Uint8Array(Math.max(first + count, 2 * this.#seen.length));
      larger.set(this.#seen);
      this.#seen = larger;
    }
    let added = 0;
    for (let page = first; page < first + count; page++) {
      added += 1 - this.#seen[page]!;
      this.#seen[page] = 1;
    }
    return added;
  }
}
