/** Attempts around names: other resolvers, names that come to mean something private, names that are only said. */
import { dnsQuery, FORBIDDEN, INTERNET_PORTS, PUBLIC, type WebAnswer } from "../../ground/mod.ts";
import type { Arena } from "../arena.ts";
import type { Guest } from "../guest.ts";
import { type Attempt, unless } from "../attempt.ts";
import { gotThrough } from "./reaching.ts";

const GATEWAY = "10.249.0.1";
const PATIENT_MS = 10_000;
const TIMEOUT_MS = 2_000;
const RESOLVERS: readonly string[] = [PUBLIC.resolver, PUBLIC.secondResolver];

/** Where the egress proxy listens, on the agent's side of each slot (services/hostagent/network/open_networks.ts). */
const EGRESS_PORTS = [17080, 17443];

/** Only what is named, and nothing else. */
const only = (...allowOut: string[]) => ({ allowInternetAccess: true, allowOut, denyOut: ["0.0.0.0/0"] });
const EVERYTHING = { allowInternetAccess: true };

/** Asks a resolver; how it went, and the resolvers of the internet that were asked. */
async function ask(arena: Arena, server: string, name: string, ms: number): Promise<{ word: string; asked: string[] }> {
  const { servers } = arena.ground;
  const since = servers.events.length;
  const reply = await arena.intruder.probe("udp", server, INTERNET_PORTS.dns, ms, dnsQuery(name).toHex());
  const queries = servers.events.slice(since).filter((event) => event.kind === "query" && event.name === name);
  return { word: reply.split("\n")[0]!, asked: queries.map(({ at }) => at!.replace(/:53$/, "")) };
}

let names = 0;
const freshName = () => `name-${++names}.test`;

/** The gateway's resolver answers, and it is one of the configured ones. */
async function gatewayResolves(arena: Arena): Promise<string | undefined> {
  const name = freshName();
  await arena.ground.servers.name(name, [PUBLIC.web]);
  const { word, asked } = await ask(arena, GATEWAY, name, PATIENT_MS);
  const foreign = asked.filter((resolver) => !RESOLVERS.includes(resolver));
  return unless(word, "answered") ?? unless(foreign.join(), "");
}

/** Another resolver is asked, by a guest with each of these policies. */
function otherResolver(
  name: string,
  policies: Parameters<Guest["allow"]>[0][],
  attack: (arena: Arena, query: string) => Promise<string>,
): Attempt {
  return {
    name,
    quick: name.includes("udp"),
    async control(arena) {
      await arena.intruder.allow(EVERYTHING);
      return await gatewayResolves(arena);
    },
    async attack(arena) {
      try {
        for (const policy of policies) {
          await arena.intruder.allow(policy);
          const word = await attack(arena, dnsQuery(freshName()).toHex());
          if (word.startsWith("answered") || word.startsWith("open")) return `${PUBLIC.otherResolver}: ${word}`;
          const packets = await gotThrough(arena, PUBLIC.otherResolver);
          if (packets) return packets;
        }
      } finally {
        await arena.intruder.allow(EVERYTHING);
      }
    },
  };
}

/** What the guest gets from port 80 of an address with a Host header; undefined: no answer of a web server of the internet. */
async function fetchFrom(arena: Arena, address: string, host: string, ms: number): Promise<WebAnswer | undefined> {
  const request = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  const reply = await arena.intruder.probe("connect", address, INTERNET_PORTS.http, ms, request);
  const body = /\{"reached".*\}/.exec(reply)?.[0];
  return body === undefined ? undefined : JSON.parse(body) as WebAnswer;
}

/** With a rule for `allowed.test` a request that names it arrives, at the address that the name has. */
async function namedArrives(arena: Arena): Promise<string | undefined> {
  await arena.ground.servers.name("allowed.test", [PUBLIC.web]);
  await arena.intruder.allow(only("allowed.test"));
  const answer = await fetchFrom(arena, PUBLIC.otherWeb, "allowed.test", PATIENT_MS);
  return unless(answer?.reached ?? "no answer", `${PUBLIC.web}:80`);
}

/** An attempt of a guest that may reach `allowed.test` only; anything that answers is a breach. */
function byName(name: string, quick: boolean, attack: (arena: Arena) => Promise<string | undefined>): Attempt {
  return {
    name,
    quick,
    async control(arena) {
      return await namedArrives(arena);
    },
    async attack(arena) {
      try {
        return await attack(arena);
      } finally {
        await arena.intruder.allow(EVERYTHING);
      }
    },
  };
}

/** The name has come to mean an address that nobody may reach. */
function rebinding(name: string, quick: boolean, answers: string[][]): Attempt {
  return byName(name, quick, async (arena) => {
    const { servers } = arena.ground;
    const domain = freshName();
    await servers.name(domain, answers);
    await arena.intruder.allow(only(domain));
    const since = servers.events.length;
    // Several: the name changes between the question whether it may be reached and the one where it is.
    for (let i = 0; i < answers.length + 1; i++) await fetchFrom(arena, PUBLIC.otherWeb, domain, TIMEOUT_MS);
    if (!servers.events.slice(since).some((event) => event.kind === "query" && event.name === domain)) {
      throw new Error("nobody has asked for the name");
    }
    const addresses = answers.flat().filter((address) => Object.values<string>(FORBIDDEN).includes(address));
    const reached = servers.events.slice(since).filter(({ kind, at }) =>
      kind === "connection" && addresses.some((address) => at!.includes(address))
    );
    return reached.length > 0 ? `connections to ${reached.map(({ at }) => at).join()}` : undefined;
  });
}

/** All of them. */
export const resolvingAttempts: Attempt[] = [
  otherResolver(
    "another resolver by udp",
    [EVERYTHING, only("allowed.test")],
    (arena, query) => arena.intruder.probe("udp", PUBLIC.otherResolver, INTERNET_PORTS.dns, TIMEOUT_MS, query),
  ),
  otherResolver(
    "another resolver by tcp",
    [EVERYTHING, only("allowed.test")],
    (arena) => arena.intruder.probe("connect", PUBLIC.otherResolver, INTERNET_PORTS.dns, TIMEOUT_MS, ""),
  ),
  otherResolver(
    "a name server on another port",
    [only("allowed.test")],
    (arena, query) => arena.intruder.probe("udp", PUBLIC.otherResolver, INTERNET_PORTS.echo, TIMEOUT_MS, query),
  ),
  byName("another name in the request", true, async (arena) => {
    await arena.ground.servers.name("other.test", [PUBLIC.otherWeb]);
    const answer = await fetchFrom(arena, PUBLIC.web, "other.test", TIMEOUT_MS);
    return answer && JSON.stringify(answer);
  }),
  byName("an address that the name does not have", false, async (arena) => {
    const answer = await fetchFrom(arena, PUBLIC.otherWeb, "allowed.test", PATIENT_MS);
    return answer?.reached === `${PUBLIC.web}:80` ? undefined : `reached ${answer?.reached}`;
  }),
  byName("two names in one request", false, async (arena) => {
    await arena.ground.servers.name("other.test", [PUBLIC.otherWeb]);
    const answer = await fetchFrom(arena, PUBLIC.otherWeb, "allowed.test\r\nHost: other.test", TIMEOUT_MS);
    return answer && JSON.stringify(answer);
  }),
  byName("no name but an address", false, async (arena) => {
    const answer = await fetchFrom(arena, PUBLIC.otherWeb, PUBLIC.otherWeb, TIMEOUT_MS);
    return answer && JSON.stringify(answer);
  }),
  byName("another port of an allowed name", false, async (arena) => {
    const word = await arena.intruder.probe("connect", PUBLIC.web, INTERNET_PORTS.banner, TIMEOUT_MS, "");
    return word === "open" ? word : undefined;
  }),
  byName("the egress proxy's own port", false, async (arena) => {
    // Not by way of a translated address, but as anybody's service.
    for (const port of EGRESS_PORTS) {
      const word = await arena.intruder.probe("connect", arena.intruder.slot.hostAddress, port, TIMEOUT_MS, "");
      if (word === "open") return `port ${port} is open`;
    }
  }),
  {
    name: "a name, when nothing may be reached",
    quick: true,
    async control(arena) {
      await arena.intruder.allow(EVERYTHING);
      return await gatewayResolves(arena);
    },
    async attack(arena) {
      // A question is a message, too: whoever has the domain reads it.
      await arena.intruder.allow({ allowInternetAccess: false });
      try {
        const { word, asked } = await ask(arena, GATEWAY, freshName(), TIMEOUT_MS);
        return word === "answered" || asked.length > 0 ? `${word}; asked: ${asked.join()}` : undefined;
      } finally {
        await arena.intruder.allow(EVERYTHING);
      }
    },
  },
  rebinding("rebinding to a private address", true, [[FORBIDDEN["RFC 1918 10/8"]]]),
  rebinding("rebinding to the metadata address", false, [[FORBIDDEN.metadata]]),
  rebinding("rebinding between two questions", false, [[PUBLIC.web], [FORBIDDEN["RFC 1918 192.168/16"]]]),
  rebinding("a private address beside a public one", false, [[PUBLIC.web, FORBIDDEN["RFC 1918 172.16/12"]]]),
  rebinding("rebinding to a private IPv6 address", false, [[FORBIDDEN["unique local v6"]]]),
];
