import { assertEquals, assertThrows } from "@std/assert";
import { pagemapScanSupported, softDirtySupported } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { chooseTracking } from "./method.ts";

Deno.test("the best way that works on this kernel is chosen", () => {
  const best = pagemapScanSupported() ? "pagemap_scan" : softDirtySupported() ? "soft_dirty" : "compare";
  assertEquals(chooseTracking("auto"), best);
  assertEquals(chooseTracking("compare"), "compare");
});

Deno.test("a way that does not work here is refused by name", () => {
  for (const [method, supported] of [["pagemap_scan", pagemapScanSupported()], ["soft_dirty", softDirtySupported()]]) {
    const choose = () => chooseTracking(method as "pagemap_scan" | "soft_dirty");
    if (supported) assertEquals(choose(), method);
    else assertEquals(assertThrows(choose, TorporError, String(method)).code, "config_invalid");
  }
});
