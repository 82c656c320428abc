import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TorporError } from "@torpor/errors";
import { decodeInput, encodeOutput } from "./bytes.ts";

Deno.test("any bytes come back unchanged through JSON", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    const { text, encoding } = JSON.parse(JSON.stringify(encodeOutput(bytes)));
    assertEquals(decodeInput(text, encoding, "data"), new Uint8Array(bytes));
  }));
});

Deno.test("any text stays text, a byte order mark too", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    assertEquals(encodeOutput(new TextEncoder().encode(text)), { text: text.toWellFormed(), encoding: "utf-8" });
  }));
  assertEquals(encodeOutput(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), { text: "\ufeffa", encoding: "utf-8" });
});

Deno.test("half a character is base64", () => {
  assertEquals(encodeOutput(new TextEncoder().encode("ü").subarray(0, 1)), { text: "ww==", encoding: "base64" });
});

Deno.test("what is no base64 names its field", () => {
  const error = assertThrows(() => decodeInput("a", "base64", "stdin"), TorporError);
  assertEquals([error.code, error.field], ["invalid_argument", "stdin"]);
});
