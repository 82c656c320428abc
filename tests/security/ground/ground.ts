/**
 * A test ground: namespaces of the test's own, connected to each other and to nothing else.
 *
 * ```
 *  agent namespace                      internet namespace
 *   the host agent, its slots' veths     owns every address that a probe aims at (addresses.ts),
 *   "services of the host" listen        with web, name and echo servers
 *            │                                      │
 *          wan0 198.51.100.2 ── veth pair ── 198.51.100.1 wan0
 * ```
 *
 * No end of the pair is in the machine's own namespace, so no packet can leave through its interfaces; `makeGround` shows that with
 * counters before anybody gets the ground.
 */
import { testCertificate } from "@torpor/testing/certificate";
import { FORBIDDEN, INTERNET_ADDRESSES, isIpv6, MARKERS, PUBLIC, UPLINK } from "./addresses.ts";
import { Namespace, sweepNamespaces } from "./namespace.ts";
import { assertSealed } from "./seal.ts";
import { Servers } from "./servers.ts";
import { arrivals, forgetArrivals, type Sighting, watchArrivals } from "./sightings.ts";

const UPLINK_DEVICE = "wan0";
const SLOT_DEVICES = "tv";

/** Ports of the internet's servers, at each of its addresses. */
export const INTERNET_PORTS = { echo: 7, sink: 9, source: 19, banner: 22, dns: 53, http: 80, https: 443 } as const;

/** Ports in the agent's namespace that stand for what a host serves: a shell, PostgreSQL, the api, other services. */
export const HOST_PORTS = { ssh: 22, database: 5432, api: 7070, scheduler: 7071, hostagent: 7073 } as const;

/** See above. */
export interface Ground extends AsyncDisposable {
  /** Where the host agent is to run: its only way out is the internet of the test. */
  agent: Namespace;
  internet: Namespace;
  /** The internet's servers; `name` sets what its resolvers answer. */
  servers: Servers;
  /** What listens in the agent's namespace. */
  host: Servers;
  /** What has arrived in the internet since {@linkcode Ground.forget}, answered or not. */
  arrivals(): Promise<Sighting[]>;
  /** What slots have sent since then that no rule in the agent's namespace has dropped. */
  passed(): Promise<Sighting[]>;
  forget(): Promise<void>;
}

/** Makes a ground, and shows that it is sealed. Needs root, iproute2 and nftables. */
export async function makeGround(): Promise<Ground> {
  await sweepNamespaces();
  await using stack = new AsyncDisposableStack();
  const agent = stack.use(await Namespace.make("agent"));
  const internet = stack.use(await Namespace.make("internet"));
  await connect(agent, internet);
  await watchArrivals(internet, UPLINK_DEVICE, "arriving");
  // Slots' devices in the agent's namespace are called tv0, tv1 …
  await watchArrivals(agent, SLOT_DEVICES, "passing");
  await assertSealed(agent, internet, UPLINK_DEVICE);
  const certificate = await testCertificate("ground.test");
  const servers = stack.use(await Servers.start(internet, internetSetup(certificate)));
  const host = stack.use(await Servers.start(agent, hostSetup(certificate)));
  await forgetArrivals(internet);
  const resources = stack.move();
  return {
    agent,
    internet,
    servers,
    host,
    arrivals: () => arrivals(internet),
    passed: () => arrivals(agent),
    async forget() {
      await Promise.all([agent, internet].map(forgetArrivals));
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function connect(agent: Namespace, internet: Namespace): Promise<void> {
  // Made inside of one of the two: neither end is ever in the machine's own namespace.
  await agent.ip([`link add ${UPLINK_DEVICE} type veth peer name ${UPLINK_DEVICE} netns ${internet.name}`]);
  await agent.ip([
    "link set lo up",
    `address add ${UPLINK.agent}/${UPLINK.prefix} dev ${UPLINK_DEVICE}`,
    `address add ${UPLINK.agent6}/${UPLINK.prefix6} dev ${UPLINK_DEVICE} nodad`,
    `link set ${UPLINK_DEVICE} up`,
    `route add default via ${UPLINK.internet}`,
    `route add default via ${UPLINK.internet6}`,
  ]);
  await internet.ip([
    "link set lo up",
    `address add ${UPLINK.internet}/${UPLINK.prefix} dev ${UPLINK_DEVICE}`,
    `address add ${UPLINK.internet6}/${UPLINK.prefix6} dev ${UPLINK_DEVICE} nodad`,
    `link set ${UPLINK_DEVICE} up`,
    // What comes from an address that nobody has translated is answered, too: then a breach is seen at both ends.
    `route add default via ${UPLINK.agent}`,
    `route add default via ${UPLINK.agent6}`,
    `address add ${MARKERS} dev lo`,
    ...INTERNET_ADDRESSES.map((address) =>
      isIpv6(address) ? `address add ${address}/128 dev lo nodad` : `address add ${address}/32 dev lo`
    ),
  ]);
}

function internetSetup(certificate: { cert: string; key: string }) {
  const { echo, sink, source, banner, dns, http, https } = INTERNET_PORTS;
  return {
    certificate,
    tcp: [
      { port: echo, speak: "echo" },
      { port: sink, speak: "sink" },
      { port: source, speak: "source" },
      { port: banner, speak: "banner" },
      { port: dns, speak: "dns" },
      { port: http, speak: "http" },
      { port: https, speak: "https" },
    ],
    udp: [
      { port: dns, speak: "dns", addresses: [...Object.values(PUBLIC), ...Object.values(FORBIDDEN)] },
      { port: echo, speak: "echo", addresses: [...INTERNET_ADDRESSES] },
    ],
  } satisfies Parameters<typeof Servers.start>[1];
}

function hostSetup(certificate: { cert: string; key: string }) {
  return {
    certificate,
    tcp: Object.values(HOST_PORTS).map((port) => ({ port, speak: "banner" as const })),
    udp: [{ port: INTERNET_PORTS.echo, speak: "echo" as const, addresses: ["0.0.0.0"] }],
  };
}
