import { TorporError } from "@torpor/errors";
import { isId } from "@torpor/ids";
import { crc32c } from "./crc32c.ts";
import { type ExtentTable, PAGE_BYTES } from "./extent_table.ts";
import { FIELD, FIXED_BYTES, KINDS, MAGIC, MAX_SOURCES, RECORD_BYTES, VERSION } from "./header_layout.ts";

/**
 * The bytes of a `memory.header` file (docs/formats/extent-header.md).
 * @throws TorporError `internal` when the table has more than 65,535 sources or one that is no id.
 */
export function encodeHeader(table: ExtentTable): Uint8Array {
  if (table.sources.length > MAX_SOURCES) {
    throw new TorporError("internal", `a snapshot cannot refer to ${table.sources.length} generations`);
  }
  const bytes = new Uint8Array(FIXED_BYTES + RECORD_BYTES * (table.sources.length + table.count));
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(FIELD.version, VERSION, true);
  view.setUint32(FIELD.kind, KINDS[table.kind], true);
  view.setUint32(FIELD.pageSize, PAGE_BYTES, true);
  view.setUint32(FIELD.generation, table.generation, true);
  setUint64(view, FIELD.sizeBytes, table.sizeBytes);
  view.setUint32(FIELD.sourceCount, table.sources.length, true);
  setUint64(view, FIELD.extentCount, table.count);
  writeSources(bytes, table);
  writeExtents(view, table);
  view.setUint32(FIELD.crc32c, crc32c(bytes), true);
  return bytes;
}

function writeSources(bytes: Uint8Array, table: ExtentTable): void {
  const encoder = new TextEncoder();
  table.sources.forEach((id, index) => {
    if (!isId(id)) throw new TorporError("internal", "a source of a snapshot is no snapshot id");
    encoder.encodeInto(id, bytes.subarray(FIXED_BYTES + RECORD_BYTES * index));
  });
}

function writeExtents(view: DataView, table: ExtentTable): void {
  let at = FIXED_BYTES + RECORD_BYTES * table.sources.length;
  for (let index = 0; index < table.count; index++, at += RECORD_BYTES) {
    setUint64(view, at, table.offsets[index]!);
    setUint64(view, at + 8, table.lengths[index]!);
    setUint64(view, at + 16, table.sourceOffsets[index]!);
    view.setUint32(at + 24, table.sourceIndexes[index]!, true);
  }
}

/** Halves instead of a BigInt: a header can have a million of these. */
function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
