/** That nothing of a test leaves through the machine's own interfaces: shown before an attempt is made. */
import { assertEquals } from "@std/assert";
import { INTERNET_ADDRESSES } from "./addresses.ts";
import type { Namespace } from "./namespace.ts";
import { arrivals, forgetArrivals } from "./sightings.ts";

/** Another program of this machine may send something while the packets of a test are counted. */
const TRIES = 20;
const DISCARD_PORT = 9;
const ARRIVAL_MS = 3_000;

/** Kernels with the modules of tunnels give one of each to every namespace. They are down and lead nowhere. */
const FALLBACK_TUNNELS = ["sit", "ip6tnl", "tunl", "gre", "gretap", "erspan", "ip_vti", "ip6_vti", "ip6gre"];

interface Link {
  ifname: string;
  flags: string[];
}

/**
 * Throws unless all that the two namespaces have are the pair between them and loopback, and packets to each address of the
 * internet, sent from the agent's namespace, arrive there and are counted by no interface of the machine.
 */
export async function assertSealed(agent: Namespace, internet: Namespace, device: string): Promise<void> {
  for (const namespace of [agent, internet]) {
    const links = JSON.parse(await namespace.run("ip", "-j", "link", "show")) as Link[];
    const isFallback = ({ ifname, flags }: Link) =>
      !flags.includes("UP") && FALLBACK_TUNNELS.some((name) => ifname === `${name}0`);
    const own = links.filter((link) => link.ifname !== "lo" && !isFallback(link)).map(({ ifname }) => ifname);
    assertEquals(own, [device], `${namespace.name} is connected to something else`);
  }
  for (let attempt = 1;; attempt++) {
    const before = machineCounters();
    await forgetArrivals(internet);
    await Promise.all(INTERNET_ADDRESSES.map((address) => sendDatagram(agent, address)));
    assertEquals(await unreached(internet), [], "addresses without an owner");
    const after = machineCounters();
    if (JSON.stringify(before) === JSON.stringify(after)) return;
    if (attempt === TRIES) assertEquals(after, before, "interfaces of the machine have sent packets");
  }
}

/** Addresses where nothing arrives. The first packet to a neighbour waits until the neighbour is found. */
async function unreached(internet: Namespace): Promise<string[]> {
  const deadline = performance.now() + ARRIVAL_MS;
  for (;;) {
    const reached = new Set((await arrivals(internet)).map(({ destination }) => destination));
    const missing = INTERNET_ADDRESSES.filter((address) => !reached.has(address));
    if (missing.length === 0 || performance.now() > deadline) return missing;
  }
}

/** One datagram from this namespace to an address; nobody has to answer. */
async function sendDatagram(namespace: Namespace, address: string): Promise<void> {
  await namespace.run("bash", "-c", `echo seal > /dev/udp/${address}/${DISCARD_PORT}`);
}

/** Packets sent by each interface of the machine but loopback. */
function machineCounters(): Record<string, string> {
  const counters: Record<string, string> = {};
  for (const line of Deno.readTextFileSync("/proc/net/dev").split("\n").slice(2)) {
    const [name, ...fields] = line.trim().split(/[:\s]+/);
    if (name && name !== "lo") counters[name] = fields[9]!;
  }
  return counters;
}
