import { promises as dns } from "node:dns";
import ipaddr from "ipaddr.js";
import { Refusal } from "./refusal.ts";

/** After it a query is sent once more, and after that the next resolver is asked. */
const QUERY_TIMEOUT_MS = 1000;
const QUERY_TRIES = 2;
const MIN_TTL_SEC = 1;
const MAX_TTL_SEC = 300;
/** So long a name that has no address is not asked for again. */
const FAILURE_TTL_SEC = 5;
const MAX_CACHED_NAMES = 4096;
/** Of a name: each is looked at for each connection, and whoever has a name can give it thousands. */
const MAX_ADDRESSES = 16;

interface CachedName {
  addresses: Promise<readonly string[]>;
  /** ms of `performance.now()`; Infinity while it is being asked for. */
  until: number;
}

/** Resolves names by asking the configured resolvers; answers are kept for as long as they say, at most five minutes. */
export class NameResolver {
  /** The one that has answered last comes first, so that one that is down delays one name, not each. */
  #servers: readonly string[];
  /** In the order of the queries. */
  readonly #cache = new Map<string, CachedName>();

  /** @param servers `address` or `address:port`; each is asked when the one before it has no answer. */
  constructor(servers: readonly string[]) {
    this.#servers = servers;
  }

  /**
   * Addresses of a name, at most 16: those of IPv4, or of IPv6 when there are none.
   * @throws Refusal `not_resolved`.
   */
  resolve(name: string): Promise<readonly string[]> {
    const known = this.#cache.get(name);
    if (known && known.until > performance.now()) return known.addresses;
    return this.#ask(name);
  }

  #ask(name: string): Promise<readonly string[]> {
    const { promise: addresses, resolve, reject } = Promise.withResolvers<readonly string[]>();
    // Whoever asked sees the failure; the cache alone does not make it an unhandled one.
    addresses.catch(() => {});
    const entry: CachedName = { addresses, until: Infinity };
    this.#cache.delete(name);
    this.#cache.set(name, entry);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= MAX_CACHED_NAMES) break;
      this.#cache.delete(oldest);
    }
    const keep = (seconds: number) => entry.until = performance.now() + seconds * 1000;
    this.#query(name).then(({ addresses, ttlSec }) => {
      keep(Math.min(Math.max(ttlSec, MIN_TTL_SEC), MAX_TTL_SEC));
      resolve(addresses);
    }, (thrown) => {
      keep(FAILURE_TTL_SEC);
      reject(thrown);
    });
    return addresses;
  }

  async #query(name: string): Promise<Answer> {
    const failures: unknown[] = [];
    for (const server of this.#servers) {
      const answered = await ask(server, name, failures);
      if (!answered) continue;
      if (server !== this.#servers[0]) this.#servers = [server, ...this.#servers.filter((other) => other !== server)];
      return answered;
    }
    throw new Refusal("not_resolved", undefined, { cause: new AggregateError(failures) });
  }
}

async function ask(server: string, name: string, failures: unknown[]): Promise<Answer | undefined> {
  const resolver = new dns.Resolver({ timeout: QUERY_TIMEOUT_MS, tries: QUERY_TRIES });
  resolver.setServers([server]);
  for (const query of [resolver.resolve4, resolver.resolve6]) {
    try {
      const records = await query.call(resolver, name, { ttl: true }) as { address: string; ttl: number }[];
      if (records.length > 0) return answer(records);
    } catch (error) {
      failures.push(error);
      if ((error as { code?: string }).code === "ETIMEOUT") return undefined;
    }
  }
  return undefined;
}

interface Answer {
  addresses: readonly string[];
  ttlSec: number;
}

function answer(all: { address: string; ttl: number }[]): Answer {
  const records = all.slice(0, MAX_ADDRESSES);
  // In one form, so that what is looked at is what is connected to: IPv4 mapped into IPv6 is IPv4.
  const addresses = records.map(({ address }) => ipaddr.process(address).toString());
  return { addresses, ttlSec: Math.min(...records.map(({ ttl }) => ttl)) };
}
