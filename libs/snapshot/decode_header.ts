import { isId } from "@torpor/ids";
import { crc32c } from "./crc32c.ts";
import { type ExtentTable, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";
import {
  FIELD,
  FIXED_BYTES,
  ID_BYTES,
  KINDS,
  MAGIC,
  MAX_SIZE_BYTES,
  MAX_SOURCE_OFFSET,
  MAX_SOURCES,
  RECORD_BYTES,
  VERSION,
} from "./header_layout.ts";
import { requireRule } from "./header_rule.ts";

/** The fixed part of a header whose own fields are in range. */
interface FixedPart {
  kind: number;
  generation: number;
  sizeBytes: number;
  sourceCount: number;
  crc32c: number;
  extentCount: number;
}

/**
 * Reads a `memory.header` file and checks every rule of its format, in the same order as the pager's reader.
 * @throws HeaderError (`snapshot_corrupt`) with the first broken rule.
 */
export function decodeHeader(bytes: Uint8Array): ExtentTable {
  requireRule(bytes.length >= FIXED_BYTES, "too_short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fixed = readFixedPart(bytes, view);
  const records = fixed.sourceCount + fixed.extentCount;
  requireRule(bytes.length === FIXED_BYTES + RECORD_BYTES * records, "file_size");
  requireRule(fixed.crc32c === checksum(bytes), "crc32c");
  const sources = readSources(bytes, fixed.sourceCount);
  const table: ExtentTable = {
    kind: fixed.kind === KINDS.memory ? "memory" : "disk",
    generation: fixed.generation,
    sizeBytes: fixed.sizeBytes,
    sources,
    count: fixed.extentCount,
    offsets: new Float64Array(fixed.extentCount),
    lengths: new Float64Array(fixed.extentCount),
    sourceOffsets: new Float64Array(fixed.extentCount),
    sourceIndexes: new Uint32Array(fixed.extentCount),
  };
  readExtents(view, table);
  return table;
}

function readFixedPart(bytes: Uint8Array, view: DataView): FixedPart {
  requireRule(MAGIC.every((byte, at) => bytes[at] === byte), "magic");
  requireRule(view.getUint32(FIELD.version, true) === VERSION, "version");
  const kind = view.getUint32(FIELD.kind, true);
  requireRule(kind === KINDS.memory || kind === KINDS.disk, "kind");
  requireRule(view.getUint32(FIELD.pageSize, true) === PAGE_BYTES, "page_size");
  const generation = view.getUint32(FIELD.generation, true);
  requireRule(generation >= 1, "generation");
  const sizeBytes = getUint64(view, FIELD.sizeBytes);
  requireRule(sizeBytes > 0 && isAligned(view, FIELD.sizeBytes) && sizeBytes <= MAX_SIZE_BYTES, "size_bytes");
  const sourceCount = view.getUint32(FIELD.sourceCount, true);
  requireRule(sourceCount <= MAX_SOURCES, "source_count");
  const extentCount = getUint64(view, FIELD.extentCount);
  requireRule(extentCount >= 1 && extentCount <= sizeBytes / PAGE_BYTES, "extent_count");
  requireRule(isZero(bytes.subarray(FIELD.reserved, FIXED_BYTES)), "reserved");
  return { kind, generation, sizeBytes, sourceCount, crc32c: view.getUint32(FIELD.crc32c, true), extentCount };
}

function checksum(bytes: Uint8Array): number {
  const before = crc32c(bytes.subarray(0, FIELD.crc32c));
  return crc32c(bytes.subarray(FIELD.crc32c + 4), crc32c(new Uint8Array(4), before));
}

function readSources(bytes: Uint8Array, count: number): string[] {
  const decoder = new TextDecoder("latin1");
  const sources: string[] = [];
  for (let index = 0; index < count; index++) {
    const record = bytes.subarray(FIXED_BYTES + RECORD_BYTES * index, FIXED_BYTES + RECORD_BYTES * (index + 1));
    const id = decoder.decode(record.subarray(0, ID_BYTES));
    requireRule(isId(id) && isZero(record.subarray(ID_BYTES)), "source_id");
    sources.push(id);
  }
  requireRule(new Set(sources).size === sources.length, "source_duplicate");
  return sources;
}

function readExtents(view: DataView, table: ExtentTable): void {
  let at = FIXED_BYTES + RECORD_BYTES * table.sources.length;
  let next = 0;
  for (let index = 0; index < table.count; index++, at += RECORD_BYTES) {
    readExtent(view, at, table, index);
    const length = table.lengths[index]!;
    requireRule(table.offsets[index] === next && length <= table.sizeBytes - next, "coverage");
    requireRule(index === 0 || !continuesPrevious(table, index), "not_merged");
    next += length;
  }
  requireRule(next === table.sizeBytes, "coverage");
}

function readExtent(view: DataView, at: number, table: ExtentTable, index: number): void {
  requireRule(isAligned(view, at), "extent_alignment");
  const length = getUint64(view, at + 8);
  requireRule(length > 0 && isAligned(view, at + 8), "extent_length");
  requireRule(view.getUint32(at + 28, true) === 0, "extent_reserved");
  const source = view.getUint32(at + 24, true);
  const sourceOffset = getUint64(view, at + 16);
  if (source === ZERO_SOURCE) {
    requireRule(sourceOffset === 0, "extent_source_offset");
  } else {
    requireRule(source < table.sources.length, "extent_source");
    requireRule(isAligned(view, at + 16) && sourceOffset <= MAX_SOURCE_OFFSET, "extent_source_offset");
  }
  table.offsets[index] = getUint64(view, at);
  table.lengths[index] = length;
  table.sourceOffsets[index] = sourceOffset;
  table.sourceIndexes[index] = source;
}

function continuesPrevious(table: ExtentTable, index: number): boolean {
  if (table.sourceIndexes[index] !== table.sourceIndexes[index - 1]) return false;
  if (table.sourceIndexes[index] === ZERO_SOURCE) return true;
  return table.sourceOffsets[index - 1]! + table.lengths[index - 1]! === table.sourceOffsets[index];
}

function isAligned(view: DataView, at: number): boolean {
  return view.getUint32(at, true) % PAGE_BYTES === 0;
}

/** Beyond 2^53 the number is rounded; every such value is above a limit that is checked. */
function getUint64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
