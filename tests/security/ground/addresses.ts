/**
 * Which addresses the test's internet owns: each one that an attempt aims at, so that a packet that gets through is seen and
 * answered instead of leaving the machine.
 */

/** Between the agent's namespace and the internet. TEST-NET-2 and the documentation prefix belong to nobody. */
export const UPLINK = {
  agent: "198.51.100.2",
  internet: "198.51.100.1",
  prefix: 24,
  agent6: "2001:db8:100::2",
  internet6: "2001:db8:100::1",
  prefix6: 64,
} as const;

/** Public addresses, by role. */
export const PUBLIC = {
  /** Resolvers that the host agent is configured with by default. */
  resolver: "1.1.1.1",
  secondResolver: "8.8.8.8",
  otherResolver: "9.9.9.9",
  web: "93.184.216.34",
  otherWeb: "151.101.1.69",
  /** Nothing is said about it in any policy of a test. */
  bystander: "203.205.254.103",
  resolver6: "2606:4700:4700::1111",
  web6: "2606:2800:220:1::1",
} as const;

/** Addresses that no sandbox may reach, whatever its policy says; one of each range. */
export const FORBIDDEN = {
  metadata: "169.254.169.254",
  "link-local": "169.254.7.7",
  "RFC 1918 10/8": "10.20.30.40",
  "RFC 1918 172.16/12": "172.20.30.40",
  "RFC 1918 192.168/16": "192.168.30.40",
  "carrier-grade NAT": "100.100.100.200",
  "Azure metadata": "168.63.129.16",
  benchmarking: "198.18.0.10",
  documentation: "203.0.113.7",
  "protocol assignments": "192.0.0.170",
  "unique local v6": "fd12:3456::1",
  "cloud metadata v6": "fd00:ec2::254",
  "NAT64 of a private address": "64:ff9b::a14:1e28",
  "6to4 of a private address": "2002:a14:1e28::1",
  "site-local v6": "fec0::7",
} as const;

/** A range of public addresses that the internet has, too: each attempt that needs a destination of its own takes one. */
export const MARKERS = "45.45.45.0/24";

/** All addresses that the internet has besides its end of the uplink. */
export const INTERNET_ADDRESSES: readonly string[] = [...Object.values(PUBLIC), ...Object.values(FORBIDDEN)];

/** Whether an address is written as IPv6. */
export function isIpv6(address: string): boolean {
  return address.includes(":");
}
