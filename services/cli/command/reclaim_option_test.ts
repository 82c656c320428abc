import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "./exit_codes.ts";
import { reclaimOption } from "./reclaim_option.ts";

Deno.test("steps of a pause and their limits", () => {
  assertEquals(reclaimOption(undefined), undefined);
  const none = { fstrimMs: 0, syncMs: 0, dropCachesMs: 0, compactMemoryMs: 0 };
  assertEquals(reclaimOption(""), none);
  assertEquals(reclaimOption("fstrim=500,drop-caches=20"), { ...none, fstrimMs: 500, dropCachesMs: 20 });
  for (const text of ["fstrim", "trim=1", "fstrim=-1", "fstrim=60001", "sync=1.5", "toString=1"]) {
    assertThrows(() => reclaimOption(text), UsageError, "--reclaim");
  }
});
