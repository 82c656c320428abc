import { EGRESS_UID } from "../egress/egress_user.ts";
import { RESERVED_IPV4, RESERVED_IPV6 } from "../reserved.ts";
import type { NetworkConfig } from "../types.ts";
import { addressSets, matching } from "./address_sets.ts";
import { HOST_REASONS, type HostReason } from "./reasons.ts";

/** The devices of slots in the agent's namespace. */
const SLOTS = "tv*";

/** The name of an agent's table in the namespace that it runs in: other agents and other programs have their own. */
export function hostTable({ agentId }: Pick<NetworkConfig, "agentId">): string {
  return `torpor_${agentId}`;
}

/**
 * A script for nft that makes an agent's table in its own namespace, in one transaction, whatever it was before; other tables
 * are not touched. It is the second line: what a slot's own rules let through by mistake ends here. From slots nothing of the
 * host is reached but the egress proxy at their end of the link, no other slot, and no private network; to slots nothing comes
 * that they have not asked for.
 *
 * A packet must be accepted by all tables: where another program's forward chain drops what it does not know (Docker's, ufw's),
 * its administrator has to let the range of the slots through.
 */
export function hostRuleset(config: NetworkConfig): string {
  const table = hostTable(config);
  return [
    `add table inet ${table}`,
    `flush table inet ${table}`,
    `table inet ${table} {`,
    ...HOST_REASONS.map((reason) => `counter ${reason} { }`),
    ...chain("spoofing", "filter hook prerouting priority raw", [
      `iifname != "${SLOTS}" accept`,
      // Slots have no IPv6; what comes is their kernels' own noise.
      "meta nfproto ipv6 drop",
      // By the routes: a slot's address is behind its own device only.
      `fib saddr . iif oif missing ${drop("spoofed")}`,
    ]),
    ...chain("input", "filter hook input priority filter", [
      // Of IPv6 nothing comes from slots: see above. The host's own is none of this table's business.
      "meta nfproto ipv6 accept",
      `ip saddr != ${config.cidr} accept`,
      'iifname "lo" accept',
      `iifname != "${SLOTS}" ${drop("spoofed")}`,
      "ct state established,related ct direction reply accept",
      `tcp dport { ${config.egress.httpPort}, ${config.egress.tlsPort} } fib daddr . iif type local accept`,
      drop("to_host"),
    ]),
    ...chain("forward", "filter hook forward priority filter", [
      `ip saddr ${config.cidr} goto from_slot`,
      `ip daddr ${config.cidr} goto to_slot`,
    ]),
    ...block("from_slot", [
      `iifname != "${SLOTS}" ${drop("spoofed")}`,
      `oifname "${SLOTS}" ${drop("between_slots")}`,
      ...matching("$ip daddr", addressSets([...RESERVED_IPV4, config.cidr]), drop("reserved_address")),
      "accept",
    ]),
    ...block("to_slot", [
      "ct state established,related ct direction reply accept",
      drop("unsolicited"),
    ]),
    ...chain("output", "filter hook output priority filter", [`meta skuid ${EGRESS_UID} goto from_proxy`]),
    // The proxy looks at each address itself; this holds also when a guest has made it do something else.
    ...block("from_proxy", [
      "ct direction reply accept",
      `oifname "lo" ${drop("to_host")}`,
      ...matching(
        "$ip daddr",
        addressSets([...RESERVED_IPV4, ...RESERVED_IPV6, config.cidr]),
        drop("reserved_address"),
      ),
      "accept",
    ]),
    ...chain("origin", "nat hook postrouting priority srcnat", [
      `ip saddr ${config.cidr} oifname != "${SLOTS}" masquerade`,
    ]),
    "}",
    "",
  ].join("\n");
}

function drop(reason: HostReason): string {
  return `counter name "${reason}" drop`;
}

function chain(name: string, hook: string, rules: readonly string[]): string[] {
  return block(name, [`type ${hook}; policy accept;`, ...rules]);
}

function block(name: string, lines: readonly string[]): string[] {
  return [`chain ${name} {`, ...lines, "}"];
}
