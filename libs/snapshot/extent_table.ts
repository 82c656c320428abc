/** Bytes of a page of guest memory, everywhere. */
export const PAGE_BYTES = 4096;

/** The `source` of an extent whose bytes are all zero. */
export const ZERO_SOURCE = 0xffffffff;

/** What a table maps: guest memory or the writable disk. */
export type ExtentKind = "memory" | "disk";

/** One run of bytes with one origin. All numbers are bytes. */
export interface Extent {
  offset: number;
  length: number;
  /** Index into the table's `sources`, or {@linkcode ZERO_SOURCE}. */
  source: number;
  /** Where the run begins in the source's file; 0 for zeros. */
  sourceOffset: number;
}

/**
 * Where each byte of a guest's memory (or disk) is stored. The extents are sorted, cover `[0, sizeBytes)` exactly and are
 * merged. They are kept in columns: a scattered 64 GiB guest has millions of them.
 */
export interface ExtentTable {
  kind: ExtentKind;
  generation: number;
  sizeBytes: number;
  /** Snapshot ids whose `memory.data` holds the bytes. */
  sources: string[];
  count: number;
  offsets: Float64Array;
  lengths: Float64Array;
  sourceOffsets: Float64Array;
  sourceIndexes: Uint32Array;
}

/** The extent with number `index` (0 … count-1). */
export function extentAt(table: ExtentTable, index: number): Extent {
  return {
    offset: table.offsets[index]!,
    length: table.lengths[index]!,
    source: table.sourceIndexes[index]!,
    sourceOffset: table.sourceOffsets[index]!,
  };
}

/** All extents in order. */
export function* extentsOf(table: ExtentTable): Generator<Extent> {
  for (let index = 0; index < table.count; index++) yield extentAt(table, index);
}

/**
 * The number of the extent that covers byte `offset`, by binary search.
 * @throws RangeError when `offset` is not in `[0, sizeBytes)`.
 */
export function findExtent(table: ExtentTable, offset: number): number {
  if (!(offset >= 0 && offset < table.sizeBytes)) throw new RangeError(`offset ${offset} is outside of the table`);
  let low = 0;
  let high = table.count;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (table.offsets[middle]! <= offset) low = middle;
    else high = middle;
  }
  return low;
}

/** Bytes that are stored somewhere, that is not zero by the table. */
export function dataBytes(table: ExtentTable): number {
  let bytes = 0;
  for (let index = 0; index < table.count; index++) {
    if (table.sourceIndexes[index] !== ZERO_SOURCE) bytes += table.lengths[index]!;
  }
  return bytes;
}

/** Collects extents in order and merges neighbours; sources are numbered in the order of their first use. */
export class ExtentTableBuilder {
  readonly #kind: ExtentKind;
  readonly #generation: number;
  readonly #sources = new Map<string, number>();
  #count = 0;
  #end = 0;
  #offsets = new Float64Array(64);
  #lengths = new Float64Array(64);
  #sourceOffsets = new Float64Array(64);
  #sourceIndexes = new Uint32Array(64);

  constructor(kind: ExtentKind, generation: number) {
    this.#kind = kind;
    this.#generation = generation;
  }

  /** Bytes covered so far. */
  get end(): number {
    return this.#end;
  }

  /** Appends `length` zero bytes. */
  addZero(length: number): void {
    this.#add(length, ZERO_SOURCE, 0);
  }

  /** Appends `length` bytes that are at `sourceOffset` of the snapshot `source`. */
  addData(length: number, source: string, sourceOffset: number): void {
    let index = this.#sources.get(source);
    if (index === undefined) this.#sources.set(source, index = this.#sources.size);
    this.#add(length, index, sourceOffset);
  }

  #add(length: number, source: number, sourceOffset: number): void {
    const last = this.#count - 1;
    if (last >= 0 && this.#continues(last, source, sourceOffset)) {
      this.#lengths[last]! += length;
    } else {
      if (this.#count === this.#offsets.length) this.#grow();
      this.#offsets[this.#count] = this.#end;
      this.#lengths[this.#count] = length;
      this.#sourceOffsets[this.#count] = sourceOffset;
      this.#sourceIndexes[this.#count] = source;
      this.#count++;
    }
    this.#end += length;
  }

  #continues(last: number, source: number, sourceOffset: number): boolean {
    if (this.#sourceIndexes[last] !== source) return false;
    return source === ZERO_SOURCE || this.#sourceOffsets[last]! + this.#lengths[last]! === sourceOffset;
  }

  #grow(): void {
    const capacity = this.#offsets.length * 2;
    const larger = (column: Float64Array) => {
      const copy = new Float64Array(capacity);
      copy.set(column);
      return copy;
    };
    this.#offsets = larger(this.#offsets);
    this.#lengths = larger(this.#lengths);
    this.#sourceOffsets = larger(this.#sourceOffsets);
    const indexes = new Uint32Array(capacity);
    indexes.set(this.#sourceIndexes);
    this.#sourceIndexes = indexes;
  }

  /** The table of what was added. The builder is not to be used afterwards. */
  build(): ExtentTable {
    return {
      kind: this.#kind,
      generation: this.#generation,
      sizeBytes: this.#end,
      sources: [...this.#sources.keys()],
      count: this.#count,
      offsets: this.#offsets.subarray(0, this.#count),
      lengths: this.#lengths.subarray(0, this.#count),
      sourceOffsets: this.#sourceOffsets.subarray(0, this.#count),
      sourceIndexes: this.#sourceIndexes.subarray(0, this.#count),
    };
  }
}
