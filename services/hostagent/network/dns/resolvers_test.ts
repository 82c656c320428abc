import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { DEFAULT_RESOLVERS, parseResolvers } from "./resolvers.ts";

Deno.test("public IPv4 addresses are resolvers", () => {
  assertEquals(parseResolvers(undefined), [...DEFAULT_RESOLVERS]);
  assertEquals(parseResolvers(" "), [...DEFAULT_RESOLVERS]);
  assertEquals(parseResolvers("9.9.9.9"), ["9.9.9.9"]);
  assertEquals(parseResolvers("1.1.1.1, 8.8.4.4"), ["1.1.1.1", "8.8.4.4"]);
});

const REFUSED = [
  "127.0.0.53",
  "10.0.0.2",
  "192.168.1.1",
  "169.254.169.253",
  "100.100.2.136",
  "168.63.129.16",
  "0.0.0.0",
  "224.0.0.251",
  "255.255.255.255",
  "1.1.1",
  "0x1.1.1.1",
  "01.1.1.1",
  "16843009",
  "1.1.1.1:53",
  "1.1.1.1/32",
  "2606:4700:4700::1111",
  "::ffff:1.1.1.1",
  "one.one.one.one",
  "1.1.1.1,",
  "1.1.1.1,,8.8.8.8",
  "1.1.1.1,1.1.1.1",
  "1.1.1.1 8.8.8.8",
  "1.1.1.1,10.0.0.1",
  "1.1.1.1,1.1.1.2,1.1.1.3,1.0.0.1,1.0.0.2",
];

for (const text of REFUSED) {
  Deno.test(`TORPOR_DNS=${text} is refused with the variable's name`, () => {
    const error = assertThrows(() => parseResolvers(text), TorporError);
    assertEquals([error.code, error.field], ["config_invalid", "TORPOR_DNS"]);
    assertStringIncludes(error.message, "TORPOR_DNS");
  });
}
