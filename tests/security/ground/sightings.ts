/** What has reached a namespace, answered or not: a spoofed packet that nobody answers is a breach, too. */
import type { Namespace } from "./namespace.ts";

/** Packets of one source to one destination. */
export interface Sighting {
  source: string;
  destination: string;
  /** IP protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6 … */
  protocol: number;
  packets: number;
}

const TABLE = "sightings";

/** Where packets are noted: before any rule has seen them, or when none has dropped them. */
const HOOKS = {
  arriving: ["prerouting priority -450"],
  passing: ["input priority 450", "forward priority 450"],
} as const;

/** Begins to note packets that come in by devices whose name begins with `device`. */
export async function watchArrivals(namespace: Namespace, device: string, when: keyof typeof HOOKS): Promise<void> {
  const chains = HOOKS[when].map((hook, index) => `
  chain noted${index} {
    type filter hook ${hook}; policy accept;
    iifname "${device}*" update @seen4 { ip saddr . ip daddr . meta l4proto counter }
    iifname "${device}*" update @seen6 { ip6 saddr . ip6 daddr . meta l4proto counter }
  }`);
  const set = (name: string, type: string) => `
  set ${name} {
    type ${type} . ${type} . inet_proto
    size 65535
    flags dynamic
  }`;
  await namespace.nft(
    `table inet ${TABLE} {${set("seen4", "ipv4_addr")}${set("seen6", "ipv6_addr")}${chains.join("")}\n}\n`,
  );
}

/** What has come in since {@linkcode forgetArrivals}. Neighbour discovery is left out: it is between neighbours. */
export async function arrivals(namespace: Namespace): Promise<Sighting[]> {
  const found: Sighting[] = [];
  for (const set of ["seen4", "seen6"]) {
    const text = await namespace.run("nft", "-j", "-n", "list", "set", "inet", TABLE, set);
    const { nftables } = JSON.parse(text) as { nftables: { set?: { elem?: Element[] } }[] };
    for (const { elem: { val, counter } } of nftables.flatMap(({ set }) => set?.elem ?? [])) {
      const [source, destination, protocol] = val.concat;
      found.push({ source, destination, protocol: Number(protocol), packets: counter.packets });
    }
  }
  return found.filter(({ source, destination }) => !/^(fe80|ff02):/.test(destination) && !source.startsWith("fe80"));
}

interface Element {
  elem: { val: { concat: [string, string, string | number] }; counter: { packets: number } };
}

/** Begins to note anew. */
export async function forgetArrivals(namespace: Namespace): Promise<void> {
  await namespace.nft(`flush set inet ${TABLE} seen4\nflush set inet ${TABLE} seen6\n`);
}
