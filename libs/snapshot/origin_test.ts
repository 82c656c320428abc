import { assertEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { compactionOrigin, formatOrigin, parseOrigin } from "./origin.ts";

Deno.test("an origin is read as it was written, and nothing else is", () => {
  const origin = compactionOrigin({ snapshot_id: "a".repeat(20), sandbox_id: "b".repeat(20), generation: 3 });
  const filled = { ...origin, memory_data: { bytes: 4096, crc32c: 7 } };
  const text = formatOrigin(filled);
  assertEquals(parseOrigin(text), filled);
  for (const fault of [text.slice(1), text.replace("a".repeat(20), ".."), text.replace("4096", "-1")]) {
    assertEquals(assertThrows(() => parseOrigin(fault), TorporError).code, "snapshot_corrupt");
  }
});
