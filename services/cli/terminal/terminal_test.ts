import { assertEquals } from "@std/assert";
import { formatAge, formatBytes, formatMs } from "./format.ts";
import { fitFor, showsColours, visibleWidth } from "./paint.ts";
import { formatTable } from "./table.ts";

Deno.test("durations, sizes and ages are short", () => {
  assertEquals([0.04, 9.96, 999, 1250, 125_000].map(formatMs), ["0.0 ms", "10.0 ms", "999 ms", "1.25 s", "2 min 5 s"]);
  assertEquals([0, 1023, 1536, 205_094_385].map(formatBytes), ["0 B", "1023 B", "1.5 KiB", "196 MiB"]);
  const now = new Date("2026-01-02T00:00:00Z");
  assertEquals(
    ["2026-01-01T23:59:50Z", "2026-01-01T23:00:00Z", "2026-01-03T00:00:00Z"].map((time) =>
      formatAge(new Date(time), now)
    ),
    ["10 s", "1 h", "0 s"],
  );
});

Deno.test("columns are as wide as what one sees of them", () => {
  const red = "\x1b[31mab\x1b[39m";
  assertEquals(visibleWidth(red), 2);
  assertEquals(formatTable([["A", "B"], [red, "x"], ["abcd", ""]]), `A     B\n${red}    x\nabcd`);
});

Deno.test("colours need a terminal, and NO_COLOR turns them off", () => {
  const before = Deno.env.get("NO_COLOR");
  try {
    Deno.env.delete("NO_COLOR");
    assertEquals(showsColours({ isTerminal: () => false }), false);
    assertEquals(showsColours({ isTerminal: () => true }), Deno.env.get("TERM") !== "dumb");
    Deno.env.set("NO_COLOR", "1");
    assertEquals(showsColours({ isTerminal: () => true }), false);
    assertEquals(fitFor({ isTerminal: () => true }, "\x1b[1mx\x1b[22m"), "x");
  } finally {
    if (before === undefined) Deno.env.delete("NO_COLOR");
    else Deno.env.set("NO_COLOR", before);
  }
});
