import { assertEquals } from "@std/assert";
import fc from "fast-check";
import ipaddr from "ipaddr.js";
import { type Cidr, disjoint, parseCidr } from "./cidr.ts";
import { isReservedAddress, RESERVED_IPV4, RESERVED_IPV6 } from "./reserved.ts";

Deno.test("every address that the registry does not call global unicast is reserved", () => {
  const ipv4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
  const ipv6 = fc.uint8Array({ minLength: 16, maxLength: 16 });
  // Most of random IPv6 is outside of 2000::/3, and what is special in there is rare.
  const near = fc.tuple(fc.constantFrom("2001::", "2001:db8::", "2002::", "3fff::", "fe80::", "64:ff9b::"), ipv6)
    .map(([start, random]) => {
      const bytes = ipaddr.parse(start).toByteArray();
      return new Uint8Array(bytes.map((byte, i) => i < 3 ? byte : random[i]!));
    });
  fc.assert(
    fc.property(fc.oneof(ipv4, ipv6, near), (bytes) => {
      const address = ipaddr.fromByteArray([...bytes]);
      if (address.kind() === "ipv6" && (address as ipaddr.IPv6).isIPv4MappedAddress()) return;
      // In no registry of ipaddr.js: benchmarking of 2001:2::/48 is in 2001::/23 anyway.
      if (address.range() !== "unicast") assertEquals(isReservedAddress(address.toString()), true, address.toString());
    }),
    { numRuns: 5000 },
  );
});

Deno.test("public addresses are not reserved, and addresses of metadata services are", () => {
  for (
    const address of [
      "1.1.1.1",
      "8.8.8.8",
      "172.15.255.255",
      "172.32.0.0",
      "11.0.0.0",
      "::ffff:1.1.1.1",
      "2606:4700::1",
    ]
  ) {
    assertEquals(isReservedAddress(address), false, address);
  }
  const reserved = [
    ...["169.254.169.254", "168.63.129.16", "10.249.0.1", "100.100.100.200", "192.168.1.1", "255.255.255.255"],
    ...["::1", "::", "fd00:ec2::254", "fe80::1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "ff02::1"],
    ...["::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.0/8", "1.1.1.1/32", "01.1.1.1", "localhost", ""],
  ];
  for (const address of reserved) assertEquals(isReservedAddress(address), true, address);
});

Deno.test("the lists are disjoint and in order, as a set of nftables wants them", () => {
  for (const list of [RESERVED_IPV4, RESERVED_IPV6]) {
    assertEquals(
      disjoint(list.map((text) => parseCidr(text) as Cidr)).map(({ address, prefix }) => `${address}/${prefix}`),
      [...list],
    );
  }
});
