import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "./exit_codes.ts";
import { keepForOption } from "./keep_for_option.ts";

Deno.test("how long a snapshot is kept", () => {
  assertEquals([undefined, "forever", "90s", "7d"].map(keepForOption), [undefined, 0, 90, 604_800]);
  for (const text of ["", "0s", "7", "3651d", "-1d", "never", "1.5h"]) {
    assertThrows(() => keepForOption(text), UsageError, "--keep-for");
  }
});
