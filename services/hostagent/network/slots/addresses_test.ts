import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { TorporError } from "@torpor/errors";
import type { NetworkConfig } from "../types.ts";
import { isSlotAddress, parseSlotCidr, slotAt, slotCount } from "./addresses.ts";
import { agentNames } from "./names.ts";

const config: NetworkConfig = {
  cidr: "10.250.0.0/16",
  dns: [],
  agentId: "0a1b2c",
  namespacePrefix: "torpor-0a1b2c-",
  egress: { httpPort: 1, tlsPort: 2 },
};

Deno.test("names and addresses of a slot follow from its number", () => {
  assertEquals(slotAt(config, 0), {
    index: 0,
    namespace: "torpor-0a1b2c-0",
    vethHost: "tv0a1b2c-0",
    hostAddress: "10.250.0.0",
    slotAddress: "10.250.0.1",
  });
  const last = slotAt(config, slotCount(config) - 1);
  assertEquals([last.hostAddress, last.slotAddress], ["10.250.255.254", "10.250.255.255"]);
  // The kernel's names of devices have at most 15 characters.
  assertEquals(slotAt(config, 99_999).vethHost.length, 14);
});

Deno.test("slots do not share addresses, and all are of the range", () => {
  const small = { ...config, cidr: "192.168.200.224/27" };
  assertEquals(slotCount(small), 16);
  const addresses = Array.from({ length: 16 }, (_, index) => slotAt(small, index)).flatMap((slot) => [
    slot.hostAddress,
    slot.slotAddress,
  ]);
  assertEquals(new Set(addresses).size, 32);
  assertEquals(addresses.filter((address) => !isSlotAddress(small, address)), []);
  assertEquals(["192.168.200.223", "192.168.201.0", "fe80::1"].filter((one) => isSlotAddress(small, one)), []);
});

Deno.test("the range is a private one, large enough, and not that of the guests", () => {
  assertEquals(parseSlotCidr("100.64.0.0/10"), "100.64.0.0/10");
  for (const odd of ["10.250.0.1/16", "8.8.0.0/16", "10.250.0.0/28", "10.0.0.0/8", "10.249.0.0/16", "fd00::/64", "x"]) {
    const error = assertThrows(() => parseSlotCidr(odd), TorporError);
    assertEquals([error.code, error.field], ["config_invalid", "TORPOR_NETWORK_CIDR"], odd);
  }
});

Deno.test("an agent's names follow from its data directory alone", async () => {
  const names = await agentNames("/var/lib/torpor");
  assertEquals(names, await agentNames("/var/lib/torpor"));
  assertNotEquals(names, await agentNames("/var/lib/torpor2"));
  assertEquals(names.namespacePrefix, `torpor-${names.agentId}-`);
});
