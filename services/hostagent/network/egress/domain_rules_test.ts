import { assertEquals, assertThrows } from "@std/assert";
import { domainName, DomainRules } from "./domain_rules.ts";

Deno.test("an exact name matches itself, a wildcard everything below", () => {
  const rules = new DomainRules(["example.com", "*.pypi.org"]);
  const names = ["example.com", "www.example.com", "pypi.org", "files.pypi.org", "a.b.pypi.org", "evilpypi.org", "org"];
  assertEquals(names.filter((name) => rules.allows(name)), ["example.com", "files.pypi.org", "a.b.pypi.org"]);
});

Deno.test("rules that are no domains are not taken", () => {
  for (
    const rule of [
      "*",
      "*.",
      "*.com",
      "a.*.com",
      "**.example.com",
      "1.1.1.1",
      "*.1.1",
      "exämple.com",
      "Example.com",
      "example.com.",
      "",
      "a b.com",
    ]
  ) {
    assertThrows(() => new DomainRules([rule]), RangeError);
  }
});

Deno.test("a name has one form", () => {
  assertEquals(domainName("WWW.Example.COM"), "www.example.com");
  assertEquals(domainName("_acme.xn--bcher-kva.example"), "_acme.xn--bcher-kva.example");
  for (
    const text of [
      "example.com.",
      ".example.com",
      "com",
      "-a.com",
      "a-.com",
      "127.0.0.1",
      `${"a".repeat(64)}.com`,
      "[::1]",
    ]
  ) {
    assertEquals(domainName(text), undefined, text);
  }
  assertEquals(domainName(`${"a.".repeat(126)}aa`), undefined);
});
