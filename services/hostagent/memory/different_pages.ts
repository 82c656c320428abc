import { type ExtentTable, PAGE_BYTES, ZERO_SOURCE } from "@torpor/snapshot";

/**
 * Pages of which two tables say different things: another source or another place in it. A place in a source's file never
 * gets another content, so all other pages are equal in both. A bitmap, least significant bit first.
 */
export function differentPages(one: ExtentTable, other: ExtentTable): Uint8Array<ArrayBuffer> {
  const pages = new Uint8Array(Math.ceil(one.sizeBytes / PAGE_BYTES / 8));
  const sourceInOne = other.sources.map((source) => one.sources.indexOf(source));
  for (let left = 0, right = 0, offset = 0; offset < one.sizeBytes;) {
    const end = Math.min(endOf(one, left), endOf(other, right));
    const source = other.sourceIndexes[right]!;
    const same = one.sourceIndexes[left] === (source === ZERO_SOURCE ? ZERO_SOURCE : sourceInOne[source]) &&
      (source === ZERO_SOURCE || placeAt(one, left, offset) === placeAt(other, right, offset));
    if (!same) setPages(pages, offset / PAGE_BYTES, end / PAGE_BYTES);
    if (end === endOf(one, left)) left++;
    if (end === endOf(other, right)) right++;
    offset = end;
  }
  return pages;
}

/** Pages that are not zero, as far as the table says. */
export function dataPages(table: ExtentTable): Uint8Array<ArrayBuffer> {
  const pages = new Uint8Array(Math.ceil(table.sizeBytes / PAGE_BYTES / 8));
  for (let extent = 0; extent < table.count; extent++) {
    if (table.sourceIndexes[extent] === ZERO_SOURCE) continue;
    setPages(pages, table.offsets[extent]! / PAGE_BYTES, endOf(table, extent) / PAGE_BYTES);
  }
  return pages;
}

function endOf(table: ExtentTable, extent: number): number {
  return table.offsets[extent]! + table.lengths[extent]!;
}

/** Where the byte is in its source's file. */
function placeAt(table: ExtentTable, extent: number, offset: number): number {
  return table.sourceOffsets[extent]! + offset - table.offsets[extent]!;
}

function setPages(pages: Uint8Array, first: number, end: number): void {
  for (let page = first; page < end; page++) pages[page >> 3]! |= 1 << (page & 7);
}
