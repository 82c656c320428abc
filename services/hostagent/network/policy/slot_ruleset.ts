/**
 * The rules of a slot's namespace: everything that its guest sends and gets passes them.
 *
 * The decision is made on the destination that the guest chose (`ct original`), before any address is translated, and for each
 * packet both ways: not only for the first of a connection. So a policy that denies more cuts what is open, whatever the
 * connection tracking thinks of it, and the order of the rules is the whole truth:
 *
 *   anti-spoofing → answers to the host → DNS → reserved addresses → other resolvers → allowed addresses → allowed domains (to
 *   the egress proxy) → denied addresses → everything else
 * @module
 */
import { ALL_TRAFFIC, deniesByDefault, domainsOf } from "@torpor/network";
import { RESERVED_IPV4, RESERVED_IPV6 } from "../reserved.ts";
import {
  GUEST_NETWORK as GUEST,
  type NetworkConfig,
  type NetworkPolicy,
  type Slot,
  TAP_DEVICE,
  UPLINK_DEVICE,
} from "../types.ts";
import { type AddressSets, addressSets, matching } from "./address_sets.ts";
import { DEFAULT_LIMITS, type NetworkLimits } from "./limits.ts";
import { SLOT_REASONS, type SlotReason } from "./reasons.ts";

/** The table in a slot's namespace; of the families inet and arp. */
export const SLOT_TABLE = "torpor";

/** Neighbour discovery between the guest and its gateway; the kernel tracks no connection of it. */
const NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";

/** Answers of the gateway itself to pings, per second. */
const PINGS = "limit rate 50/second";

/** "It is denied", per second: a guest that floods gets silence. */
const REFUSALS = "limit rate 100/second burst 100 packets";

/** What the rules are made of. */
interface Parts {
  slot: Slot;
  config: NetworkConfig;
  limits: NetworkLimits;
  resolvers: AddressSets;
  allowed: AddressSets;
  denied: AddressSets;
  /** The sandbox may reach some domains, through the egress proxy. */
  byName: boolean;
  deniesByDefault: boolean;
  /** Who may reach addresses only has nothing to ask a resolver, which would pass messages to the outside. */
  dns: boolean;
}

/**
 * A script for nft that makes these the rules of a slot, in one transaction, whatever was there before. Counters and the count
 * of connections go on.
 */
export function slotRuleset(config: NetworkConfig, slot: Slot, policy: NetworkPolicy): string {
  const byName = domainsOf(policy).length > 0;
  const denies = deniesByDefault(policy);
  const parts: Parts = {
    slot,
    config,
    limits: config.limits ?? DEFAULT_LIMITS,
    resolvers: addressSets(config.dns),
    allowed: addressSets(policy.allowOut),
    // By itself it would come before the domains; what it says is what happens at the end.
    denied: addressSets(policy.denyOut.filter((entry) => entry !== ALL_TRAFFIC)),
    byName,
    deniesByDefault: denies,
    dns: byName || !denies,
  };
  const counters = SLOT_REASONS.map((reason) => `counter ${reason} { }`);
  const chains = [...spoofing(), ...ways(parts), ...decision(parts), ...translation(parts)];
  return [
    `add table inet ${SLOT_TABLE}`,
    `flush table inet ${SLOT_TABLE}`,
    block(`table inet ${SLOT_TABLE}`, [
      ...counters,
      "set connections { type ifname; size 2; flags dynamic; }",
      ...chains,
    ]),
    arpTable(),
  ].join("\n");
}

function block(head: string, lines: readonly string[]): string {
  return `${head} {\n${lines.join("\n")}\n}\n`;
}

function drop(reason: SlotReason): string {
  return `counter name "${reason}" drop`;
}

function refuse(reason: SlotReason): string {
  return `counter name "${reason}" goto refuse`;
}

/** Nothing leaves the tap device but what has the guest's own addresses. */
function spoofing(): string[] {
  return [
    block("chain spoofing", [
      "type filter hook prerouting priority raw; policy accept;",
      `iifname "${TAP_DEVICE}" goto source`,
    ]),
    block("chain source", [
      `ether saddr != ${GUEST.mac} ${drop("spoofed")}`,
      `ip saddr ${GUEST.address} accept`,
      `ip6 saddr ${GUEST.address6} accept`,
      `ip6 saddr { ::, fe80::/10 } ${NEIGHBOURS} ip6 hoplimit 255 accept`,
      // Its kernel's own noise: solicitations of routers, reports of multicast groups.
      "ip6 saddr { ::, fe80::/10 } drop",
      drop("spoofed"),
    ]),
  ];
}

/** Which packets are decided on, and what there is besides the way from the guest to the uplink and back. */
function ways({ limits }: Parts): string[] {
  const tap = `iifname "${TAP_DEVICE}"`;
  const rate = limits.rateMbit > 0 && limits.rateBy === "nft"
    ? [`limit rate over ${limits.rateMbit * 125} kbytes/second burst ${limits.rateMbit * 125} kbytes ${drop("rate")}`]
    : [];
  return [
    block("chain ways", [
      "type filter hook prerouting priority mangle; policy drop;",
      'iifname "lo" accept',
      `${NEIGHBOURS} accept`,
      // What the kernel tracks no connections of has nothing to be decided by: reports of multicast groups.
      "ct state untracked drop",
      `ct state invalid ${drop("invalid")}`,
      `${tap} goto from_guest`,
      `iifname "${UPLINK_DEVICE}" goto to_guest`,
    ]),
    block("chain from_guest", [
      ...rate,
      `ct direction reply ct original ip saddr ${GUEST.gateway} accept`,
      `ct direction reply ct original ip6 saddr ${GUEST.gateway6} accept`,
      `ct direction reply ${drop("unsolicited")}`,
      `ip daddr ${GUEST.gateway} icmp type echo-request ${PINGS} accept`,
      `ip6 daddr ${GUEST.gateway6} icmpv6 type echo-request ${PINGS} accept`,
      "goto decision",
    ]),
    block("chain to_guest", [
      ...rate,
      `ct direction original ${drop("unsolicited")}`,
      "goto decision",
    ]),
    block("chain forward", [
      "type filter hook forward priority filter; policy drop;",
      `${tap} oifname "${UPLINK_DEVICE}" accept`,
      `iifname "${UPLINK_DEVICE}" oifname "${TAP_DEVICE}" accept`,
      drop("no_way"),
    ]),
    block("chain input", [
      "type filter hook input priority filter; policy drop;",
      'iifname "lo" accept',
      `${NEIGHBOURS} accept`,
      "ct state established,related accept",
      `${tap} icmp type echo-request accept`,
      `${tap} icmpv6 type echo-request accept`,
      drop("no_way"),
    ]),
  ];
}

/** What becomes of a packet by the destination that the guest chose for its connection. */
function decision(parts: Parts): string[] {
  const { config, resolvers, limits } = parts;
  const askable = { v4: orNone(resolvers.v4), v6: orNone(resolvers.v6, "::") };
  const toResolver = (sets: string[]) => sets.length > 0 && parts.dns ? "goto admit" : refuse("dns");
  const reserved = addressSets([...RESERVED_IPV4, ...RESERVED_IPV6, config.cidr]);
  return [
    block("chain decision", [
      ...dnsOver("ipv4").map((dns) => `${dns} ct original ip daddr ${GUEST.gateway} ${toResolver(resolvers.v4)}`),
      ...dnsOver("ipv6").map((dns) => `${dns} ct original ip6 daddr ${GUEST.gateway6} ${toResolver(resolvers.v6)}`),
      ...matching("ct original $ip daddr", reserved, refuse("reserved_address")),
      ...dnsOver("ipv4").map((dns) => `${dns} ct original ip daddr != { ${askable.v4.join(", ")} } ${refuse("dns")}`),
      ...dnsOver("ipv6").map((dns) => `${dns} ct original ip6 daddr != { ${askable.v6.join(", ")} } ${refuse("dns")}`),
      ...matching("ct original $ip daddr", parts.allowed, "goto admit"),
      ...parts.byName ? webPorts().map((port) => `${port} goto by_name`) : [],
      ...matching("ct original $ip daddr", parts.denied, refuse("denied")),
      parts.deniesByDefault ? refuse("denied") : "goto admit",
    ]),
    // A connection that was there before the domains were goes to the address that the guest chose, not to the proxy.
    block("chain by_name", [
      `meta nfproto ipv6 ${refuse("denied")}`,
      "ct state new goto admit",
      "ct status dnat goto admit",
      refuse("denied"),
    ]),
    block("chain admit", [
      ...limits.connections > 0
        ? [
          `ct state new add @connections { iifname ct count over ${limits.connections} } ${
            refuse("too_many_connections")
          }`,
        ]
        : [],
      "accept",
    ]),
    block("chain refuse", [
      `iifname != "${TAP_DEVICE}" drop`,
      "fib daddr type { broadcast, multicast } drop",
      `meta l4proto tcp ${REFUSALS} reject with tcp reset`,
      `meta l4proto != tcp ${REFUSALS} reject with icmpx admin-prohibited`,
      "drop",
    ]),
  ];
}

/** Connections of DNS, of either protocol. */
function dnsOver(family: "ipv4" | "ipv6"): string[] {
  return ["tcp", "udp"].map((protocol) => connections(family, protocol, 53));
}

/** What the egress proxy takes. */
function webPorts(): string[] {
  return [80, 443].map((port) => connections("ipv4", "tcp", port));
}

/** In this order: nft knows what a port is only after the protocols. */
function connections(family: string, protocol: string, port: number): string {
  return `ct original l3proto ${family} ct original protocol ${protocol} ct original proto-dst ${port}`;
}

/** A set must have an element: the unspecified address is nobody's. */
function orNone(addresses: string[], none = "0.0.0.0"): string[] {
  return addresses.length > 0 ? addresses : [none];
}

/** Where admitted connections really go. Whom they come from is the slot's own address from here on. */
function translation({ slot, config, resolvers, allowed, byName, dns }: Parts): string[] {
  const port53 = "meta l4proto { tcp, udp } th dport 53";
  const proxied = (port: number, proxyPort: number) =>
    [
      "meta nfproto ipv4",
      ...allowed.v4.length > 0 ? [`ip daddr != { ${allowed.v4.join(", ")} }`] : [],
      `tcp dport ${port} dnat ip to ${slot.hostAddress}:${proxyPort}`,
    ].join(" ");
  return [
    block("chain destination", [
      "type nat hook prerouting priority dstnat; policy accept;",
      `iifname != "${TAP_DEVICE}" accept`,
      ...dns ? toResolvers(`ip daddr ${GUEST.gateway} ${port53} dnat ip to`, resolvers.v4) : [],
      ...dns ? toResolvers(`ip6 daddr ${GUEST.gateway6} ${port53} dnat ip6 to`, resolvers.v6) : [],
      ...byName ? [proxied(80, config.egress.httpPort), proxied(443, config.egress.tlsPort)] : [],
    ]),
    block("chain origin", [
      "type nat hook postrouting priority srcnat; policy accept;",
      `oifname "${UPLINK_DEVICE}" ip saddr ${GUEST.address} snat ip to ${slot.slotAddress}`,
      `oifname "${UPLINK_DEVICE}" ip6 saddr ${GUEST.address6} masquerade`,
    ]),
  ];
}

/** A query that is repeated, with another port, goes to the next resolver: one that is dead costs one try. */
function toResolvers(rule: string, resolvers: readonly string[]): string[] {
  if (resolvers.length <= 1) return resolvers.map((resolver) => `${rule} ${resolver}`);
  const map = resolvers.map((resolver, index) => `${index} : ${resolver}`).join(", ");
  return [`${rule} numgen inc mod ${resolvers.length} map { ${map} }`];
}

/** The guest asks for its gateway and answers for itself; for nobody else. */
function arpTable(): string {
  const { mac, address, gateway } = GUEST;
  return [
    `add table arp ${SLOT_TABLE}`,
    `flush table arp ${SLOT_TABLE}`,
    block(`table arp ${SLOT_TABLE}`, [
      "counter spoofed { }",
      block("chain input", [
        "type filter hook input priority filter; policy accept;",
        `iifname != "${TAP_DEVICE}" accept`,
        `ether saddr ${mac} arp saddr ether ${mac} arp saddr ip ${address} arp daddr ip ${gateway} accept`,
        drop("spoofed"),
      ]),
    ]),
  ].join("\n");
}
