/** Ethernet frames as an intruder makes them: nothing in them has to be true. */
import ipaddr from "ipaddr.js";

const ETHERTYPE = { arp: 0x0806, ipv4: 0x0800 } as const;

/** IP protocol numbers. */
export const PROTOCOL = { icmp: 1, ipip: 4, tcp: 6, udp: 17, gre: 47, icmpv6: 58, sctp: 132 } as const;

/** Who claims to send it to whom. */
export interface Ends {
  sourceMac: string;
  targetMac: string;
  source: string;
  target: string;
}

/** What is in an IPv4 packet. */
export interface Ipv4Content {
  protocol: number;
  payload: Uint8Array;
  /** Bytes of IP options, a multiple of four. */
  options?: Uint8Array;
  /** The flags and fragment offset field. */
  fragment?: number;
}

/** An Ethernet frame with an IPv4 packet, as hex. */
export function ipv4Frame(
  ends: Ends,
  { protocol, payload, options = new Uint8Array(), fragment = 0 }: Ipv4Content,
): string {
  const length = 20 + options.length;
  const header = new Uint8Array(length);
  const view = new DataView(header.buffer);
  view.setUint8(0, 0x40 | length / 4);
  view.setUint16(2, length + payload.length);
  view.setUint16(4, 0x5eed);
  view.setUint16(6, fragment);
  view.setUint8(8, 64);
  view.setUint8(9, protocol);
  header.set(bytesOf(ends.source), 12);
  header.set(bytesOf(ends.target), 16);
  header.set(options, 20);
  view.setUint16(10, checksum(header));
  return toHex(ethernet(ends, ETHERTYPE.ipv4), header, payload);
}

/** An ARP reply that nobody asked for: `ends.source` is at `ends.sourceMac`. */
export function arpReply(ends: Ends): string {
  const payload = new Uint8Array(28);
  payload.set([0, 1, 8, 0, 6, 4, 0, 2]);
  payload.set(macBytes(ends.sourceMac), 8);
  payload.set(bytesOf(ends.source), 14);
  payload.set(macBytes(ends.targetMac), 18);
  payload.set(bytesOf(ends.target), 24);
  return toHex(ethernet(ends, ETHERTYPE.arp), payload);
}

/** A UDP datagram; over IPv4 its checksum may be left out, over IPv6 `ends` is needed for it. */
export function udp(port: number, text: string, ends?: Ends): Uint8Array {
  const data = new TextEncoder().encode(text);
  const datagram = new Uint8Array(8 + data.length);
  const view = new DataView(datagram.buffer);
  view.setUint16(0, 40_000);
  view.setUint16(2, port);
  view.setUint16(4, datagram.length);
  datagram.set(data, 8);
  if (ends) view.setUint16(6, checksum(withPseudoHeader(ends, PROTOCOL.udp, datagram)));
  return datagram;
}

/** A TCP SYN to a port. */
export function tcpSyn(port: number, ends: Ends): Uint8Array {
  const segment = new Uint8Array(20);
  const view = new DataView(segment.buffer);
  view.setUint16(0, 40_001);
  view.setUint16(2, port);
  view.setUint32(4, 1);
  view.setUint16(12, 0x5002);
  view.setUint16(14, 1024);
  view.setUint16(16, checksum(withPseudoHeader(ends, PROTOCOL.tcp, segment)));
  return segment;
}

/** Loose source routing by way of `addresses` (RFC 791). */
export function looseSourceRoute(...addresses: string[]): Uint8Array {
  const length = 3 + 4 * addresses.length;
  const options = new Uint8Array(Math.ceil(length / 4) * 4);
  options.set([131, length, 4, ...addresses.flatMap((address) => Array.from(bytesOf(address)))]);
  return options;
}

function ethernet({ sourceMac, targetMac }: Ends, type: number): Uint8Array {
  return Uint8Array.from([...macBytes(targetMac), ...macBytes(sourceMac), type >> 8, type & 255]);
}

function withPseudoHeader({ source, target }: Ends, protocol: number, payload: Uint8Array): Uint8Array {
  const length = payload.length;
  const [from, to] = [bytesOf(source), bytesOf(target)];
  const tail = from.length === 4
    ? [0, protocol, length >> 8, length & 255]
    : [0, 0, length >> 8, length & 255, 0, 0, 0, protocol];
  return Uint8Array.from([...from, ...to, ...tail, ...payload]);
}

/** The Internet checksum (RFC 1071). */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes[at]! << 8 | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function bytesOf(address: string): Uint8Array {
  return Uint8Array.from(ipaddr.parse(address).toByteArray());
}

function macBytes(mac: string): number[] {
  return mac.split(":").map((byte) => parseInt(byte, 16));
}

function toHex(...parts: Uint8Array[]): string {
  return parts.map((part) => part.toHex()).join("");
}
