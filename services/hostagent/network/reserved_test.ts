import { assertEquals } from "@std/assert";
import ipaddr from "ipaddr.js";
import { isInRange, isReservedAddress, RESERVED_IPV4, RESERVED_IPV6 } from "./reserved.ts";

const RESERVED = [
  "0.0.0.0",
  "10.1.2.3",
  "100.64.0.1",
  "100.100.100.200",
  "127.0.0.1",
  "168.63.129.16",
  "169.254.169.254",
  "172.16.0.1",
  "172.31.255.255",
  "192.0.0.192",
  "192.168.0.1",
  "198.19.255.255",
  "224.0.0.251",
  "255.255.255.255",
  "::",
  "::1",
  "::ffff:10.0.0.1",
  "64:ff9b::a00:1",
  "2001:0:1::1",
  "2002:a00:1::1",
  "fd00::1",
  "fe80::1",
  "fe80::1%eth0",
  "ff02::1",
  "",
  "localhost",
  "1.1.1.1 ",
];

const PUBLIC = [
  "1.1.1.1",
  "8.8.8.8",
  "9.255.255.255",
  "100.63.255.255",
  "100.128.0.0",
  "172.15.0.1",
  "172.32.0.1",
  "192.0.1.1",
  "223.255.255.255",
  "::ffff:1.1.1.1",
  "2001:4860:4860::8888",
  "2606:4700:4700::1111",
];

Deno.test("what no sandbox may reach is reserved, the internet is not", () => {
  assertEquals(RESERVED.filter((address) => !isReservedAddress(address)), []);
  assertEquals(PUBLIC.filter((address) => isReservedAddress(address)), []);
});

Deno.test("the ranges are networks that do not overlap", () => {
  for (const list of [RESERVED_IPV4, RESERVED_IPV6]) {
    for (const cidr of list) {
      const [network, bits] = ipaddr.parseCIDR(cidr);
      const first = network.kind() === "ipv4"
        ? ipaddr.IPv4.networkAddressFromCIDR(cidr)
        : ipaddr.IPv6.networkAddressFromCIDR(cidr);
      assertEquals(first.toString(), network.toString(), `host bits of ${cidr}/${bits}`);
      assertEquals(list.filter((other) => other !== cidr && isInRange(network.toString(), [other])), []);
    }
  }
});
