import { TorporError } from "@torpor/errors";
import { type ExtentKind, type ExtentTable, ExtentTableBuilder, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";

/** A run of pages that a new generation stores (`data`) or declares to be zero. */
export interface PageRun {
  pageIndex: number;
  pageCount: number;
  kind: "data" | "zero";
  /** Where the run begins in the new generation's file, bytes. Ignored for zeros. */
  outputOffset: number;
}

/** What a new generation consists of. */
export interface Generation {
  /** The id of the new snapshot: the source of its data runs. */
  snapshotId: string;
  kind: ExtentKind;
  generation: number;
  sizeBytes: number;
  /** Sorted by `pageIndex`, without overlap. Without a parent they cover everything. */
  runs: Iterable<PageRun>;
}

/**
 * The flattened table of a new generation: what its runs cover is theirs, the rest is the parent's.
 * Sources that no extent refers to any more are left out, so that their data can be deleted.
 * @param parent the table of the generation before; undefined for the first one.
 * @throws TorporError `internal` when runs are out of order or out of range, or leave a gap without a parent.
 */
export function overlayTable(parent: ExtentTable | undefined, generation: Generation): ExtentTable {
  const { sizeBytes } = generation;
  if (parent && parent.sizeBytes !== sizeBytes) throw invalid("the parent has another size");
  const builder = new ExtentTableBuilder(generation.kind, generation.generation);
  const inherit = parentReader(parent, builder);
  for (const run of generation.runs) {
    const start = run.pageIndex * PAGE_BYTES;
    const length = run.pageCount * PAGE_BYTES;
    if (start < builder.end || !(length > 0) || start + length > sizeBytes) throw invalid("runs out of order or range");
    inherit(start);
    if (run.kind === "zero") builder.addZero(length);
    else builder.addData(length, generation.snapshotId, run.outputOffset);
  }
  inherit(sizeBytes);
  return builder.build();
}

/** Returns a function that appends the parent's bytes from the builder's end up to `end`; it walks the parent once. */
function parentReader(parent: ExtentTable | undefined, builder: ExtentTableBuilder): (end: number) => void {
  let index = 0;
  return (end) => {
    if (builder.end < end && !parent) throw invalid("the first generation must cover all pages");
    while (parent && builder.end < end) {
      const extentEnd = parent.offsets[index]! + parent.lengths[index]!;
      if (extentEnd <= builder.end) {
        index++;
        continue;
      }
      const length = Math.min(extentEnd, end) - builder.end;
      const source = parent.sourceIndexes[index]!;
      if (source === ZERO_SOURCE) {
        builder.addZero(length);
      } else {
        const inside = builder.end - parent.offsets[index]!;
        builder.addData(length, parent.sources[source]!, parent.sourceOffsets[index]! + inside);
      }
    }
  };
}

function invalid(message: string): TorporError {
  return new TorporError("internal", `the pages of a generation do not fit: ${message}`);
}
