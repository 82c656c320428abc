import { assertEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import fc from "fast-check";
import { type Cidr, isWithin, parseCidr } from "./cidr.ts";
import { matchesDomainRule } from "./domain_rule.ts";
import { ALL_TRAFFIC, deniesByDefault } from "./network_policy.ts";
import { domainsOf, MAX_POLICY_ENTRIES, parsePolicy } from "./parse_policy.ts";

function refusal(input: Parameters<typeof parsePolicy>[0]): TorporError {
  const error = assertThrows(() => parsePolicy(input), TorporError);
  assertEquals(error.code, "invalid_argument");
  return error;
}

const CLOSED = { allowInternetAccess: false };

Deno.test("addresses, CIDRs and domains come out in one form, each once", () => {
  const policy = parsePolicy({
    allowOut: [
      ...["1.1.1.1", "1.1.1.1/32", "8.8.8.0/24", "2606:4700:4700:0:0:0:0:1111", "2606:4700::/32"],
      ...["Example.COM", "example.com.", "*.Example.com", "bücher.example", "ＥＸＡＭＰＬＥ.com", "a_b.example.com"],
    ],
    denyOut: ["0.0.0.0/0", "10.0.0.0/8", "::/0"],
  });
  assertEquals(policy, {
    allowInternetAccess: true,
    allowOut: [
      ...["1.1.1.1", "8.8.8.0/24", "2606:4700:4700::1111", "2606:4700::/32"],
      ...["example.com", "*.example.com", "xn--bcher-kva.example", "a_b.example.com"],
    ],
    denyOut: ["0.0.0.0/0", "10.0.0.0/8", "::/0"],
  });
  assertEquals(domainsOf(policy), ["example.com", "*.example.com", "xn--bcher-kva.example", "a_b.example.com"]);
  assertEquals(parsePolicy(policy), policy);
});

Deno.test("what is left out allows everything", () => {
  assertEquals(parsePolicy({}), { allowInternetAccess: true, allowOut: [], denyOut: [] });
  assertEquals(deniesByDefault(parsePolicy({})), false);
  assertEquals(deniesByDefault(parsePolicy({ denyOut: [ALL_TRAFFIC] })), true);
  assertEquals(deniesByDefault(parsePolicy(CLOSED)), true);
});

Deno.test("odd addresses are refused with the entry at fault", () => {
  const odd = [
    ...["", ".", "1.1.1", "1.1.1.1.1", "01.1.1.1", "1.1.1.256", "0x1.1.1.1", "1.1.1.1/33", "1.1.1.1/", "1.1.1.1/08"],
    ...["1.1.1.1/24", "1.1.1.1/-1", "1.1.1.1/32/32", " 1.1.1.1", "1.1.1.1 ", "1.1.1.1\n", "16843009", "1.1.1.1/ 8"],
    ...["fe80::1%eth0", "::ffff:1.1.1.1", "::ffff:101:101", "2606::1::1", "2606::/129", "2606::1/64", "2606:"],
    ...["[2606::1]", "1.1.1.1:53", "/8", "::1.1.1.1", "1.1.1.1; drop", "2606::1;", "12345::"],
  ];
  for (const text of odd) {
    assertEquals(refusal({ denyOut: ["9.9.9.9", text] }).field, "network.deny_out.1", text);
    assertEquals(refusal({ ...CLOSED, allowOut: ["9.9.9.9", text] }).field, "network.allow_out.1", text);
  }
});

Deno.test("odd domains are refused", () => {
  const odd = [
    ...["localhost", "*", "*.", "*.*.example.com", "a.*.example.com", "*example.com", "exa mple.com", "example..com"],
    ...["-a.example.com", "a-.example.com", "exa%6dple.com", "user@example.com", "example.com:443", ".example.com"],
    ...["example.com..", "1.2.3.0x4", "a.b.1", "example.c\0om", 'a".example.com', "}.example.com", "xn--a.example"],
    ...[`${"a".repeat(64)}.example.com`, `${"a.".repeat(127)}example.com`, "a\u202eb.example", "\ud800.example.com"],
  ];
  for (const text of odd) assertEquals(refusal({ ...CLOSED, allowOut: [text] }).field, "network.allow_out.0", text);
});

Deno.test("domains are only allowed, and only when everything else is denied", () => {
  assertEquals(refusal({ denyOut: ["example.com"] }).field, "network.deny_out.0");
  assertEquals(refusal({ allowOut: ["1.1.1.1", "example.com"] }).field, "network.allow_out.1");
  assertEquals(refusal({ allowOut: ["example.com"], denyOut: ["1.0.0.0/8"] }).field, "network.allow_out.0");
});

Deno.test("what no sandbox may reach cannot be allowed, a range around it can", () => {
  for (const text of ["10.0.0.1", "169.254.169.254", "192.168.0.0/24", "fd00::/8", "::1", "127.0.0.1"]) {
    assertEquals(refusal({ allowOut: [text] }).field, "network.allow_out.0", text);
  }
  assertEquals(parsePolicy({ allowOut: ["0.0.0.0/0", "::/0"] }).allowOut, ["0.0.0.0/0", "::/0"]);
});

Deno.test("a list has a limit", () => {
  const list = (count: number) => Array.from({ length: count }, (_, i) => `11.0.${i >> 8}.${i & 255}`);
  assertEquals(parsePolicy({ allowOut: list(MAX_POLICY_ENTRIES) }).allowOut.length, MAX_POLICY_ENTRIES);
  assertEquals(refusal({ allowOut: list(MAX_POLICY_ENTRIES + 1) }).field, "network.allow_out");
  assertEquals(refusal({ denyOut: list(MAX_POLICY_ENTRIES + 1) }).field, "network.deny_out");
});

Deno.test("whatever is accepted is harmless text, and reads again as the same", () => {
  const pieces = fc.constantFrom(
    ..."0123456789abcdefx.:/*-_% \n;{}\"'@ü。．Å",
    "example",
    "com",
    "::",
    "255",
    "/32",
    "0x",
  );
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.array(pieces, { maxLength: 12 }).map((all) => all.join("")));
  fc.assert(
    fc.property(fc.array(text, { maxLength: 3 }), fc.array(text, { maxLength: 3 }), (allowOut, denyOut) => {
      let policy;
      try {
        policy = parsePolicy({ ...CLOSED, allowOut, denyOut });
      } catch (error) {
        assertEquals((error as TorporError).code, "invalid_argument");
        return;
      }
      for (const entry of [...policy.allowOut, ...policy.denyOut]) {
        assertEquals(/^(\*\.)?[a-z0-9.:/_-]+$/.test(entry), true, entry);
      }
      assertEquals(parsePolicy(policy), policy);
    }),
    { numRuns: 5_000 },
  );
});

Deno.test("a range is within another exactly when its first and last address are", () => {
  const range = fc.tuple(fc.nat(0xffffffff), fc.integer({ min: 0, max: 32 })).map(([bits, prefix]) => {
    const network = prefix === 0 ? 0 : (bits & (-1 << (32 - prefix))) >>> 0;
    const text = [24, 16, 8, 0].map((shift) => (network >>> shift) & 255).join(".");
    const size = 2 ** (32 - prefix);
    return { cidr: parseCidr(`${text}/${prefix}`) as Cidr, first: network, last: network + size - 1 };
  });
  fc.assert(fc.property(range, range, (a, b) => {
    assertEquals(isWithin(a.cidr, b.cidr), a.first >= b.first && a.last <= b.last);
  }));
});

Deno.test("a wildcard covers what is below the name, not the name", () => {
  assertEquals(matchesDomainRule("*.example.com", "a.example.com"), true);
  assertEquals(matchesDomainRule("*.example.com", "a.b.example.com"), true);
  assertEquals(matchesDomainRule("*.example.com", "example.com"), false);
  assertEquals(matchesDomainRule("*.example.com", ".example.com"), false);
  assertEquals(matchesDomainRule("*.example.com", "badexample.com"), false);
  assertEquals(matchesDomainRule("example.com", "a.example.com"), false);
  assertEquals(matchesDomainRule("example.com", "example.com"), true);
});
