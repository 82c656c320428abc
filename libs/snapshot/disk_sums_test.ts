import { assertEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { decodeDiskSums, type DiskSums, encodeDiskSums, SUM_CHUNK_BYTES } from "./disk_sums.ts";

const sums: DiskSums = { sizeBytes: 2 * SUM_CHUNK_BYTES + 4096, sums: Uint32Array.of(7, 0xffffffff, 0) };

Deno.test("checksums of a disk are read as they were written", () => {
  assertEquals(decodeDiskSums(encodeDiskSums(sums)), sums);
  assertEquals(decodeDiskSums(encodeDiskSums({ sizeBytes: 0, sums: new Uint32Array() })).sums.length, 0);
});

Deno.test("any single-bit change, and any other length, of the checksums of a disk is refused", () => {
  const bytes = encodeDiskSums(sums);
  const refused = (changed: Uint8Array) =>
    assertEquals(assertThrows(() => decodeDiskSums(changed), TorporError).code, "snapshot_corrupt");
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = bytes.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    refused(changed);
  }
  for (let length = 0; length < bytes.length; length++) refused(bytes.subarray(0, length));
  refused(Uint8Array.of(...bytes, 0));
});
