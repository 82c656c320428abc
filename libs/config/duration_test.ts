import { assertEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { durationSec, parseDurationSec, readConfig } from "./mod.ts";

Deno.test("durations have one unit", () => {
  const expected = { "90s": 90, "15m": 900, "12h": 43_200, "30d": 2_592_000, "2w": 1_209_600, "0s": 0 };
  for (const [text, seconds] of Object.entries(expected)) assertEquals(parseDurationSec(text), seconds, text);
  for (const text of ["", "7", "d", "-1d", "1.5h", "1d12h", "1 d", "1D", "1y", "9999999999s", " 1d", "1d\n"]) {
    assertEquals(parseDurationSec(text), undefined, text);
  }
});

Deno.test("a duration in a configuration has limits", () => {
  const shape = { RETENTION: durationSec(60, 86_400).optional() };
  assertEquals(readConfig(shape, { RETENTION: "1h" }).RETENTION, 3600);
  assertEquals(readConfig(shape, {}).RETENTION, undefined);
  for (const RETENTION of ["59s", "2d", "for ever"]) {
    assertEquals(assertThrows(() => readConfig(shape, { RETENTION }), TorporError).field, "RETENTION");
  }
});
