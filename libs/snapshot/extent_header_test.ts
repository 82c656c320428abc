import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { crc32c } from "./crc32c.ts";
import { decodeHeader } from "./decode_header.ts";
import { encodeHeader } from "./encode_header.ts";
import { extentsOf, type ExtentTable, ExtentTableBuilder, PAGE_BYTES, ZERO_SOURCE } from "./extent_table.ts";
import { FIELD, FIXED_BYTES, RECORD_BYTES } from "./header_layout.ts";
import { HeaderError, type HeaderRule } from "./header_rule.ts";

const A = "a".repeat(20);
const B = "b".repeat(20);

/** zero page, two pages of A, one of B, one of A that does not continue. */
function sample(): ExtentTable {
  const builder = new ExtentTableBuilder("memory", 7);
  builder.addZero(PAGE_BYTES);
  builder.addData(2 * PAGE_BYTES, A, 0);
  builder.addData(PAGE_BYTES, B, 3 * PAGE_BYTES);
  builder.addData(PAGE_BYTES, A, 9 * PAGE_BYTES);
  return builder.build();
}

/** Changes an encoded sample; `fixChecksum` makes the change the only fault. */
function damaged(change: (view: DataView, bytes: Uint8Array) => void, fixChecksum = true): Uint8Array {
  const bytes = encodeHeader(sample());
  const view = new DataView(bytes.buffer);
  change(view, bytes);
  if (fixChecksum) {
    view.setUint32(FIELD.crc32c, 0, true);
    view.setUint32(FIELD.crc32c, crc32c(bytes), true);
  }
  return bytes;
}

const EXTENTS = FIXED_BYTES + 2 * RECORD_BYTES;
const extentField = (index: number, field: number) => EXTENTS + RECORD_BYTES * index + field;

/** One broken file for each rule of the format. */
const FAULTS: Record<HeaderRule, Uint8Array> = {
  too_short: encodeHeader(sample()).subarray(0, 63),
  magic: damaged((_, bytes) => bytes[0] = 0),
  version: damaged((view) => view.setUint32(FIELD.version, 2, true)),
  kind: damaged((view) => view.setUint32(FIELD.kind, 3, true)),
  page_size: damaged((view) => view.setUint32(FIELD.pageSize, 8192, true)),
  generation: damaged((view) => view.setUint32(FIELD.generation, 0, true)),
  size_bytes: damaged((view) => view.setUint32(FIELD.sizeBytes, 4097, true)),
  source_count: damaged((view) => view.setUint32(FIELD.sourceCount, 65_536, true)),
  extent_count: damaged((view) => view.setUint32(FIELD.extentCount, 6, true)),
  reserved: damaged((_, bytes) => bytes[63] = 1),
  file_size: damaged((view) => view.setUint32(FIELD.extentCount, 3, true)),
  crc32c: damaged((_, bytes) => bytes[extentField(1, 17)]! ^= 0x10, false),
  source_id: damaged((_, bytes) => bytes[FIXED_BYTES] = 0x41),
  source_duplicate: damaged((_, bytes) => bytes.set(bytes.slice(FIXED_BYTES, FIXED_BYTES + 20), FIXED_BYTES + 32)),
  extent_alignment: damaged((view) => view.setUint32(extentField(1, 0), PAGE_BYTES + 1, true)),
  extent_length: damaged((view) => view.setUint32(extentField(1, 8), 0, true)),
  extent_reserved: damaged((view) => view.setUint32(extentField(1, 28), 1, true)),
  extent_source: damaged((view) => view.setUint32(extentField(1, 24), 2, true)),
  extent_source_offset: damaged((view) => view.setUint32(extentField(0, 16), PAGE_BYTES, true)),
  coverage: damaged((view) => view.setUint32(extentField(2, 0), 4 * PAGE_BYTES, true)),
  not_merged: damaged((view) => {
    // The neighbour must continue the file as well, not only have the same source.
    view.setUint32(extentField(2, 24), 0, true);
    view.setUint32(extentField(2, 16), 2 * PAGE_BYTES, true);
  }),
};

for (const [rule, bytes] of Object.entries(FAULTS)) {
  Deno.test(`a header that breaks ${rule} is refused with its name`, () => {
    const error = assertThrows(() => decodeHeader(bytes), HeaderError);
    assertEquals([error.rule, error.code], [rule, "snapshot_corrupt"]);
  });
}

Deno.test("values beyond 2^53 are refused, not rounded into range", () => {
  const high = (index: number, field: number) =>
    damaged((view) => view.setUint32(extentField(index, field) + 4, 0x80000000, true));
  assertThrows(() => decodeHeader(high(1, 16)), HeaderError, "extent_source_offset");
  assertThrows(() => decodeHeader(high(1, 8)), HeaderError, "coverage");
  assertThrows(() => decodeHeader(high(1, 0)), HeaderError, "coverage");
});

Deno.test("every single-bit change of a header is noticed", () => {
  const good = encodeHeader(sample());
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bytes = good.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    assertThrows(() => decodeHeader(bytes), HeaderError);
  }
});

/** Any valid table of up to 40 extents. */
const anyTable: fc.Arbitrary<ExtentTable> = fc.tuple(
  fc.array(
    fc.record({ pages: fc.integer({ min: 1, max: 5000 }), source: fc.nat(3), at: fc.nat(2 ** 30) }),
    { minLength: 1, maxLength: 40 },
  ),
  fc.integer({ min: 1, max: 0xffffffff }),
).map(([parts, generation]) => {
  const builder = new ExtentTableBuilder("memory", generation);
  for (const { pages, source, at } of parts) {
    if (source === 3) builder.addZero(pages * PAGE_BYTES);
    else builder.addData(pages * PAGE_BYTES, "abc"[source]!.repeat(20), at * PAGE_BYTES);
  }
  return builder.build();
});

Deno.test("what is encoded is decoded unchanged", () => {
  fc.assert(fc.property(anyTable, (table) => {
    const decoded = decodeHeader(encodeHeader(table));
    assertEquals([...extentsOf(decoded)], [...extentsOf(table)]);
    assertEquals(
      [decoded.kind, decoded.generation, decoded.sizeBytes, decoded.sources],
      [table.kind, table.generation, table.sizeBytes, table.sources],
    );
  }));
});

Deno.test("the file has the documented offsets", () => {
  const bytes = encodeHeader(sample());
  const view = new DataView(bytes.buffer);
  assertEquals(new TextDecoder().decode(bytes.subarray(0, 8)), "TORPOREX");
  assertEquals([8, 12, 16, 20, 32].map((at) => view.getUint32(at, true)), [1, 1, 4096, 7, 2]);
  assertEquals([view.getBigUint64(24, true), view.getBigUint64(40, true)], [20480n, 4n]);
  assertEquals(view.getUint32(64 + 64 + 24, true), ZERO_SOURCE);
  assertEquals(bytes.length, 64 + 32 * (2 + 4));
});
