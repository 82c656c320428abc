import { assertEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import { parseEndpointUrl } from "./endpoint_url.ts";
import { isPublicAddress } from "./public_address.ts";

const PUBLIC = ["8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00::1"];

const NOT_PUBLIC = [
  ...["10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1"],
  ...["100.100.100.200", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"],
  ...["224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"],
  ...["::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "fe80::1", "fe80::1%eth0"],
  ...["fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2002:7f00:1::", "2001::1", "64:ff9b::7f00:1"],
  ...["64:ff9b:1::1", "::ffff:0:127.0.0.1", "2001:db8::1", "100::1", "5f00::1", "4000::1"],
  ...["", "example.com", "127.0.0.1:80", "1.2.3.4.5"],
];

Deno.test("only addresses that lead nowhere inside are public", () => {
  assertEquals(PUBLIC.filter((address) => !isPublicAddress(address)), []);
  assertEquals(NOT_PUBLIC.filter(isPublicAddress), []);
});

const refusal = (url: string, allowPrivate = false) =>
  assertThrows(() => parseEndpointUrl(url, { allowPrivate }), TorporError, undefined, url);

Deno.test("URLs that cannot be meant are refused, and private ones unless they are allowed", () => {
  for (
    const url of [
      ...["", "example.com", "/hook", "ftp://example.com/", "https://user:word@example.com/", "https://example.com/#a"],
      `https://example.com/${"a".repeat(2048)}`,
    ]
  ) {
    for (const allowed of [false, true]) {
      const { code, field } = refusal(url, allowed);
      assertEquals([code, field], ["invalid_argument", "url"], url);
    }
  }
  for (
    const url of [
      ...["http://example.com/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://localhost/"],
      ...["https://[::1]/", "https://[::ffff:7f00:1]/", "https://10.1.2.3:8443/x", "https://a.localhost./"],
    ]
  ) {
    refusal(url);
    assertEquals(typeof parseEndpointUrl(url, { allowPrivate: true }).href, "string");
  }
  const url = "https://example.com:8443/hook?key=1";
  assertEquals(parseEndpointUrl(url, { allowPrivate: false }).href, url);
});
