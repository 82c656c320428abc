import ipaddr from "ipaddr.js";
import { type Cidr, isWithin, parseCidr } from "./cidr.ts";

/**
 * IPv4 that no sandbox ever reaches: what is not the public internet (IANA's special-purpose registry), and the address
 * of Azure's metadata service, which looks like a public one.
 */
export const RESERVED_IPV4: readonly string[] = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
];

/**
 * IPv6 that no sandbox ever reaches: everything but 2000::/3, and of that what leads to an IPv4 address or elsewhere
 * through a translator (Teredo and other protocol assignments, 6to4), and documentation.
 */
export const RESERVED_IPV6: readonly string[] = [
  "::/3",
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "3fff::/20",
  "4000::/2",
  "8000::/1",
];

const RANGES: readonly Cidr[] = [...RESERVED_IPV4, ...RESERVED_IPV6].map((text) => parseCidr(text) as Cidr);

/** True when no sandbox may ever reach any address of the range. */
export function isReservedRange(range: Cidr): boolean {
  return RANGES.some((reserved) => isWithin(range, reserved));
}

/**
 * True for an address that no sandbox may ever reach, and for what is no address. IPv4 mapped into IPv6 counts as IPv4: so
 * does connect(2) take it.
 */
export function isReservedAddress(text: string): boolean {
  return !isPlainAddress(text) || isInRange(text, RESERVED_IPV4) || isInRange(text, RESERVED_IPV6);
}

/** True when an address (IPv4 mapped into IPv6: as IPv4) is in one of the ranges; false for what is no address. */
export function isInRange(text: string, ranges: readonly string[]): boolean {
  if (!isPlainAddress(text)) return false;
  const range = parseCidr(ipaddr.process(text).toString());
  return !("problem" in range) && ranges.some((outer) => {
    const parsed = parseCidr(outer);
    return !("problem" in parsed) && isWithin(range, parsed);
  });
}

/** Four decimal octets, or IPv6 without a zone id: what every reader takes for the same address. */
function isPlainAddress(text: string): boolean {
  return text.includes(":")
    ? !text.includes("%") && ipaddr.IPv6.isValid(text)
    : !("problem" in parseCidr(text)) && !text.includes("/");
}
