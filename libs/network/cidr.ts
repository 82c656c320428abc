import ipaddr from "ipaddr.js";

/** A range of IP addresses. */
export interface Cidr {
  family: 4 | 6;
  /** In its shortest form; "/32" and "/128" are left out. */
  text: string;
  address: ipaddr.IPv4 | ipaddr.IPv6;
  prefix: number;
}

const OCTET = "(?:0|[1-9][0-9]{0,2})";
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
/** Without a zone id and without an IPv4 address at its end. */
const IPV6 = /^[0-9a-f:]{2,39}$/i;
const PREFIX = /^(?:0|[1-9][0-9]{0,2})$/;

/** IPv4 written as IPv6: no packet has such a destination. */
const MAPPED: [ipaddr.IPv6, number] = [ipaddr.IPv6.parse("::ffff:0:0"), 96];

/**
 * Reads an IP address or a CIDR. Strict, as each reader of "010.0.0.1" or "10.0.0.1/8" understands something else: four
 * decimal octets without leading zeros; no zone id, no IPv4 in IPv6; no bits behind the prefix.
 * @returns the range, or what is wrong with the text.
 */
export function parseCidr(text: string): Cidr | { problem: string } {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (!address) return { problem: "is no IP address or CIDR" };
  const bits = address.kind() === "ipv4" ? 32 : 128;
  const prefixText = slash < 0 ? String(bits) : text.slice(slash + 1);
  const prefix = PREFIX.test(prefixText) ? Number(prefixText) : NaN;
  if (!(prefix <= bits)) return { problem: `has a prefix length that is not 0 to ${bits}` };
  const network = networkAddress(address, prefix);
  if (network !== address.toString()) return { problem: `has host bits set: the network is ${network}/${prefix}` };
  const written = prefix === bits ? network : `${network}/${prefix}`;
  return { family: bits === 32 ? 4 : 6, text: written, address, prefix };
}

function parseAddress(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  if (IPV4.test(text)) return ipaddr.IPv4.isValid(text) ? ipaddr.IPv4.parse(text) : undefined;
  if (!IPV6.test(text) || !ipaddr.IPv6.isValid(text)) return undefined;
  const address = ipaddr.IPv6.parse(text);
  return address.match(MAPPED) ? undefined : address;
}

function networkAddress(address: ipaddr.IPv4 | ipaddr.IPv6, prefix: number): string {
  const bytes = address.toByteArray().map((byte, index) => {
    const kept = Math.min(8, Math.max(0, prefix - index * 8));
    return byte & (0xff00 >> kept) & 0xff;
  });
  return ipaddr.fromByteArray(bytes).toString();
}

/** True when every address of `inner` is one of `outer`. */
export function isWithin(inner: Cidr, outer: Cidr): boolean {
  return inner.family === outer.family && inner.prefix >= outer.prefix &&
    networkAddress(inner.address, outer.prefix) === outer.address.toString();
}

/** The ranges that are within no other: of two CIDRs that overlap one contains the other. In the order of their addresses. */
export function disjoint(ranges: readonly Cidr[]): Cidr[] {
  const sorted = [...ranges].sort((a, b) => compareBytes(a, b) || a.prefix - b.prefix);
  const kept: Cidr[] = [];
  for (const range of sorted) {
    const last = kept.at(-1);
    if (!last || !isWithin(range, last)) kept.push(range);
  }
  return kept;
}

function compareBytes(a: Cidr, b: Cidr): number {
  if (a.family !== b.family) return a.family - b.family;
  const [left, right] = [a.address.toByteArray(), b.address.toByteArray()];
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return left[i]! - right[i]!;
  return 0;
}
