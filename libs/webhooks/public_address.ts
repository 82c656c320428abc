import ipaddr from "ipaddr.js";

/** Azure's wire server: the metadata of a virtual machine at an address that is otherwise a public one. */
const METADATA_ADDRESSES: readonly string[] = ["168.63.129.16"];

/** Where global unicast addresses of IPv6 begin (RFC 4291, the IANA registry): 2000::/3. */
const GLOBAL_UNICAST: [ipaddr.IPv6, number] = [ipaddr.IPv6.parse("2000::"), 3];

/**
 * True when anybody on the internet may be meant by an address, so that to connect to it tells nothing about this
 * network: no private, shared (CGNAT), link-local, loopback, multicast, reserved or documentation address, none that
 * leads to an IPv4 address through a translator (6to4, Teredo, NAT64), and none of a cloud's metadata.
 * @param text an address of IPv4 or IPv6; IPv4 mapped into IPv6 counts as IPv4.
 */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (address.range() !== "unicast" || METADATA_ADDRESSES.includes(address.toString())) return false;
  return address.kind() === "ipv4" || (address as ipaddr.IPv6).match(GLOBAL_UNICAST);
}

/** An address in its shortest form, IPv4 mapped into IPv6 as IPv4; undefined for what is no address. */
export function canonicalAddress(text: string): string | undefined {
  return ipaddr.isValid(text) ? ipaddr.process(text).toString() : undefined;
}
