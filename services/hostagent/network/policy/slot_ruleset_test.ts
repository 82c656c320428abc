import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { NetworkPolicy } from "../types.ts";
import { applyPolicy } from "./apply_policy.ts";
import { applyRuleset } from "./apply_ruleset.ts";
import { type Dropped, readDropped } from "./counters.ts";
import { SLOT_TABLE, slotRuleset } from "./slot_ruleset.ts";
import { type Actor, CONFIG, Lab, OTHER_RESOLVER, OTHER_WEB, WEB, WEB6 } from "./testing/lab.ts";

const OPEN: NetworkPolicy = { allowInternetAccess: true, allowOut: [], denyOut: [] };
const CLOSED: NetworkPolicy = { ...OPEN, allowInternetAccess: false };

/** What a guest is told of a destination that it may not reach. */
const REFUSED = "ECONNREFUSED";

/** A guest whose packets pass the rules, and servers on each address of the internet. */
class Guest implements AsyncDisposable {
  #count = 0;

  private constructor(readonly lab: Lab, readonly actor: Actor, readonly internet: Actor) {}

  static async start(policy: NetworkPolicy, config = CONFIG): Promise<Guest> {
    const lab = await Lab.make();
    await applyRuleset(slotRuleset(config, lab.slots[0]!, policy), lab.slots[0]!.namespace);
    const guest = new Guest(lab, lab.actor("guest0"), lab.actor("internet"));
    for (const port of [22, 53, 80, 443]) {
      await guest.internet.tell({ do: "serve_tcp", host: "::", port, as: `tcp${port}` });
    }
    for (const host of ["1.1.1.1", "8.8.8.8", OTHER_RESOLVER, WEB, WEB6]) {
      for (const port of [53, 443]) await guest.internet.tell({ do: "serve_udp", host, port, as: host });
    }
    return guest;
  }

  async set(policy: NetworkPolicy, config = CONFIG): Promise<void> {
    await applyRuleset(slotRuleset(config, this.lab.slots[0]!, policy), this.lab.slots[0]!.namespace);
  }

  /** Connects and hangs up: the greeting, or why not. */
  async tcp(host: string, port = 22): Promise<string> {
    const as = `t${this.#count++}`;
    const answer = await this.actor.tell({ do: "connect", host, port, as });
    await this.actor.tell({ do: "close", as });
    return answer;
  }

  /** Sends a datagram: what comes back, or the reason for which it was dropped. */
  async udp(host: string, port = 53, as = `u${this.#count++}`): Promise<string> {
    const before = await this.#allDropped();
    let answer: string | undefined;
    void this.actor.tell({ do: "send", host, port, as, text: "hello" }).then((text) => answer = text);
    for (;;) {
      if (answer !== undefined) return answer;
      const now = await this.#allDropped();
      const reason = Object.keys(now).find((reason) => now[reason]!.packets > before[reason]!.packets);
      if (reason) return reason;
    }
  }

  async #allDropped(): Promise<Record<string, Dropped>> {
    return await readDropped(SLOT_TABLE, this.lab.slots[0]!.namespace);
  }

  async dropped(reason: string): Promise<number> {
    return (await this.#allDropped())[reason]!.packets;
  }

  /** Waits until packets were dropped for a reason. */
  async untilDropped(reason: string, above: number): Promise<void> {
    while (await this.dropped(reason) <= above);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }
}

Deno.test("an open policy reaches the internet, by the slot's address, and nothing that is reserved", async () => {
  await using guest = await Guest.start(OPEN);
  assertEquals(await guest.tcp(WEB), "tcp22 sees ::ffff:10.250.0.1");
  assertEquals(await guest.udp(WEB, 443), `${WEB} sees 10.250.0.1: hello`);
  assertMatch(await guest.tcp(WEB6), /^tcp22 sees fd99::/);
  const forbidden = ["10.20.30.40", "172.20.30.40", "192.168.30.40", "100.100.100.200", "168.63.129.16", "203.0.113.7"];
  for (const address of [...forbidden, "169.254.169.254", "198.51.100.2", "fd12:3456::1", "2001:db8::7"]) {
    const before = await guest.dropped("reserved_address");
    assertEquals(await guest.tcp(address), REFUSED, address);
    assertEquals(await guest.udp(address, 443), "reserved_address", address);
    // And maybe what its kernel tells multicast groups by itself.
    assert(await guest.dropped("reserved_address") >= before + 2, address);
  }
});

Deno.test("the range of the slots is reserved whatever it is", async () => {
  const config = { ...CONFIG, cidr: "93.184.0.0/16" };
  await using guest = await Guest.start({ ...OPEN, allowOut: [WEB] }, config);
  assertEquals(await guest.tcp(WEB), REFUSED);
  assertMatch(await guest.tcp(OTHER_WEB), /^tcp22/);
});

Deno.test("names are asked at the configured resolvers, in turn, and nowhere else", async () => {
  await using guest = await Guest.start({ ...OPEN, allowOut: [OTHER_RESOLVER] });
  const asked = new Set([await guest.udp("10.249.0.1"), await guest.udp("10.249.0.1")]);
  assertEquals(asked, new Set(["1.1.1.1 sees 10.250.0.1: hello", "8.8.8.8 sees 10.250.0.1: hello"]));
  assertMatch(await guest.tcp("10.249.0.1", 53), /^tcp53/);
  assertMatch(await guest.udp("1.1.1.1"), /^1\.1\.1\.1/);
  assertEquals(await guest.udp(OTHER_RESOLVER), "dns");
  assertEquals(await guest.tcp(OTHER_RESOLVER, 53), REFUSED);
  assertEquals(await guest.udp(WEB6), "dns");
  assertEquals(await guest.dropped("dns"), 3);
  // Its other ports are those of any host.
  assertMatch(await guest.tcp(OTHER_RESOLVER, 443), /^tcp443/);
});

Deno.test("the gateway itself has no port but that of names", async () => {
  await using guest = await Guest.start(OPEN);
  assertEquals(await guest.tcp("10.249.0.1", 22), REFUSED);
  assertEquals(await guest.tcp("10.250.0.1", 22), REFUSED);
  assertEquals(await guest.tcp("10.250.0.0", 22), REFUSED);
  assertEquals(await guest.tcp("fd74:7270::1", 22), REFUSED);
});

Deno.test("what is allowed wins over what is denied; the rest is as the policy says", async () => {
  const all = "0.0.0.0/0";
  await using guest = await Guest.start({ ...OPEN, denyOut: ["93.184.0.0/16", "2606::/16"], allowOut: [] });
  assertEquals([await guest.tcp(WEB), await guest.tcp(WEB6)], [REFUSED, REFUSED]);
  assertMatch(await guest.tcp(OTHER_WEB), /^tcp22/);
  assertMatch(await guest.udp("10.249.0.1"), /sees/);
  await guest.set({ ...OPEN, denyOut: ["93.184.0.0/16"], allowOut: ["93.184.216.0/24"] });
  assertMatch(await guest.tcp(WEB), /^tcp22/);
  for (const denying of [{ ...OPEN, denyOut: [all] }, CLOSED]) {
    await guest.set({ ...denying, allowOut: [WEB] });
    assertMatch(await guest.tcp(WEB), /^tcp22/);
    assertEquals(await guest.tcp(OTHER_WEB), REFUSED);
    assertEquals(await guest.tcp(WEB6), REFUSED);
    // Resolvers pass messages on: who reaches addresses only has nothing to ask them.
    assertEquals(await guest.udp("10.249.0.1"), "dns");
    await guest.set({ ...denying, allowOut: [WEB6, "10.0.0.0/8"] });
    assertMatch(await guest.tcp(WEB6), /^tcp22/);
    assertEquals(await guest.tcp("10.20.30.40"), REFUSED);
  }
});

Deno.test("a connection that is open is cut when its destination is denied, others go on", async () => {
  await using guest = await Guest.start(OPEN);
  const { actor } = guest;
  for (const [as, host] of [["cut", WEB], ["kept", OTHER_WEB], ["cut6", WEB6]] as const) {
    assertMatch(await actor.tell({ do: "connect", host, port: 22, as }), /^tcp22/);
  }
  assertMatch(await guest.udp(WEB, 443, "flow"), /: hello$/);
  await guest.set({ ...OPEN, denyOut: [`${WEB}/32`, "2606:2800::/32"] });
  assertEquals(await actor.tell({ do: "say", as: "cut", text: "are you there" }), "ECONNRESET");
  assertEquals(await actor.tell({ do: "say", as: "cut6", text: "are you there" }), "ECONNRESET");
  assertEquals(await guest.udp(WEB, 443, "flow"), "denied");
  assertEquals(await actor.tell({ do: "say", as: "kept", text: "and you" }), "and you");
  // Also what was allowed by name of an address, once only the end of the list decides.
  await guest.set({ ...CLOSED, allowOut: [OTHER_WEB] });
  assertEquals(await actor.tell({ do: "say", as: "kept", text: "still" }), "still");
  await guest.set(CLOSED);
  assertEquals(await actor.tell({ do: "say", as: "kept", text: "now" }), "ECONNRESET");
});

Deno.test("nothing comes in any more from a destination that is denied, and nobody calls in", async () => {
  await using guest = await Guest.start(OPEN);
  const slot = guest.lab.slots[0]!;
  assertMatch(await guest.actor.tell({ do: "send", host: WEB, port: 443, as: "flow", text: "1" }), /: 1$/);
  await guest.set(CLOSED);
  const denied = await guest.dropped("denied");
  const internet = guest.lab.actor("internet");
  const unsolicited = await guest.dropped("unsolicited");
  void internet.tell({ do: "send", host: slot.slotAddress, port: 9, as: "stranger", text: "hello" });
  await guest.untilDropped("unsolicited", unsolicited);
  assertEquals(await guest.dropped("denied"), denied);
});

Deno.test("names that are allowed go to the egress proxy, whatever address the guest chose", async () => {
  await using guest = await Guest.start({ ...CLOSED, allowOut: ["example.com", `${OTHER_WEB}/32`] });
  const proxy = guest.lab.actor("agent");
  for (const port of [CONFIG.egress.httpPort, CONFIG.egress.tlsPort]) {
    await proxy.tell({ do: "serve_tcp", host: "10.250.0.0", port, as: `proxy${port}` });
  }
  assertEquals(await guest.tcp(WEB, 80), "proxy30080 sees 10.250.0.1");
  assertEquals(await guest.tcp(WEB, 443), "proxy30443 sees 10.250.0.1");
  // Addresses come first, other ports, IPv6 and QUIC are not names, and what is reserved stays so.
  assertMatch(await guest.tcp(OTHER_WEB, 443), /^tcp443/);
  assertEquals(await guest.tcp(WEB, 22), REFUSED);
  assertEquals(await guest.tcp(WEB6, 443), REFUSED);
  assertEquals(await guest.udp(WEB, 443), "denied");
  assertEquals(await guest.tcp("10.20.30.40", 443), REFUSED);
  assertEquals(await guest.tcp("10.250.0.0", 30_443), REFUSED);
  assertMatch(await guest.udp("10.249.0.1"), /sees/);
});

Deno.test("a connection from before the domains does not go past the proxy, one through the proxy ends with them", async () => {
  await using guest = await Guest.start(OPEN);
  const { actor, lab } = guest;
  const proxy = lab.actor("agent");
  await proxy.tell({ do: "serve_tcp", host: "10.250.0.0", port: CONFIG.egress.tlsPort, as: "proxy" });
  assertMatch(await actor.tell({ do: "connect", host: WEB, port: 443, as: "direct" }), /^tcp443/);
  await guest.set({ ...CLOSED, allowOut: ["example.com"] });
  assertEquals(await actor.tell({ do: "say", as: "direct", text: "hello" }), "ECONNRESET");
  assertMatch(await actor.tell({ do: "connect", host: WEB, port: 443, as: "named" }), /^proxy/);
  await guest.set({ ...CLOSED, allowOut: ["example.org"] });
  assertEquals(await actor.tell({ do: "say", as: "named", text: "the proxy decides" }), "the proxy decides");
  await guest.set(CLOSED);
  assertEquals(await actor.tell({ do: "say", as: "named", text: "hello" }), "ECONNRESET");
});

Deno.test("the proxy learns the domains after the rules are in force, and that there are none", async () => {
  await using lab = await Lab.make();
  const slot = lab.slots[0]!;
  const told: (readonly string[] | undefined)[] = [];
  const egress = {
    async setRules(_slot: unknown, domains: readonly string[] | undefined) {
      assertStringIncludes(await lab.run("slot0", "nft", "list", "ruleset"), "30443");
      told.push(domains);
    },
  };
  const target = { config: CONFIG, slot, egress };
  await applyPolicy(target, { ...CLOSED, allowOut: ["1.1.1.1", "example.com", "*.example.org"] });
  assertEquals(told, [["example.com", "*.example.org"]]);
  egress.setRules = async (_slot, domains) => void told.push(domains);
  await applyPolicy(target, OPEN);
  assertEquals(told.at(-1), undefined);
  assertEquals(told.length, 2);
});

Deno.test("a guest uses its own addresses only", async () => {
  await using guest = await Guest.start(OPEN);
  const { lab, actor } = guest;
  const ip = (...args: string[]) => lab.run("guest0", "ip", ...args);
  // The gateway stays known, so that what is seen is the rule about packets, not the one about ARP.
  const gateway = await addressOf(lab, "slot0", "tap0");
  const know = () => ip("neigh", "replace", "10.249.0.1", "lladdr", gateway, "dev", "eth0", "nud", "permanent");
  await know();
  const become = async (address: string, gateway: string) => {
    await ip("addr", "flush", "dev", "eth0", "scope", "global");
    await ip("addr", "add", address, "dev", "eth0", ...address.includes(":") ? ["nodad"] : []);
    await ip("route", "replace", "default", "via", gateway, "dev", "eth0", "onlink");
    await know();
  };
  const spoof = async (host: string) => {
    const before = await guest.dropped("spoofed");
    void actor.tell({ do: "send", host, port: 443, as: `spoof${before}`, text: "hello" });
    await guest.untilDropped("spoofed", before);
  };
  for (const stranger of ["10.249.0.3", "1.1.1.1", "10.250.0.3", "10.20.30.40"]) {
    await become(`${stranger}/32`, "10.249.0.1");
    await spoof(WEB);
  }
  await become("fd74:7270::3/64", "fd74:7270::1");
  await ip("neigh", "replace", "fd74:7270::1", "lladdr", gateway, "dev", "eth0", "nud", "permanent");
  await spoof(WEB6);
  await become("10.249.0.2/30", "10.249.0.1");
  assertMatch(await guest.tcp(WEB), /^tcp22/);
  await ip("link", "set", "eth0", "address", "02:74:72:70:00:99");
  await know();
  await spoof(WEB);
  await ip("link", "set", "eth0", "address", "02:74:72:70:00:02");
  await know();
  assertMatch(await guest.tcp(WEB), /^tcp22/);
});

Deno.test("a guest answers ARP for itself only", async () => {
  await using guest = await Guest.start(OPEN);
  const { lab, actor } = guest;
  assertMatch(await guest.tcp(WEB), /^tcp22/);
  const before = await guest.dropped("spoofed");
  // It asks as somebody else for the gateway.
  await lab.run("guest0", "ip", "addr", "flush", "dev", "eth0", "scope", "global");
  await lab.run("guest0", "ip", "addr", "add", "10.249.0.3/30", "dev", "eth0");
  await lab.run("guest0", "ip", "route", "replace", "default", "via", "10.249.0.1");
  await lab.run("guest0", "ip", "neigh", "flush", "dev", "eth0");
  void actor.tell({ do: "send", host: WEB, port: 443, as: "claim", text: "hello" });
  await guest.untilDropped("spoofed", before);
  assertEquals((await lab.run("slot0", "ip", "neigh", "show", "10.249.0.3")).trim(), "");
});

async function addressOf(lab: Lab, role: string, device: string): Promise<string> {
  return JSON.parse(await lab.run(role, "ip", "-json", "link", "show", device))[0].address;
}

Deno.test("a sandbox has so many connections at the same time, counted on over a change of its rules", async () => {
  const config = { ...CONFIG, limits: { rateMbit: 0, connections: 3, rateBy: "tc" as const } };
  await using guest = await Guest.start(OPEN, config);
  const { actor } = guest;
  const connect = (as: string) => actor.tell({ do: "connect", host: WEB, port: 22, as });
  for (const as of ["one", "two", "three"]) assertMatch(await connect(as), /^tcp22/);
  assertEquals(await connect("four"), REFUSED);
  await guest.set({ ...OPEN, denyOut: ["9.9.9.9"] }, config);
  assertEquals(await connect("five"), REFUSED);
  assertEquals(await guest.dropped("too_many_connections"), 2);
  assertEquals(await actor.tell({ do: "say", as: "one", text: "hello" }), "hello");
});

Deno.test("the rules take as many entries as a policy may have, and keep their counters", async () => {
  await using guest = await Guest.start(CLOSED);
  assertEquals(await guest.tcp(WEB), REFUSED);
  const many = (first: number) => Array.from({ length: 512 }, (_, i) => `${first}.${i >> 8}.${i & 255}.0/24`);
  await guest.set({ ...OPEN, allowOut: [...many(20).slice(1), WEB], denyOut: ["93.184.0.0/16", ...many(30).slice(1)] });
  assertMatch(await guest.tcp(WEB), /^tcp22/);
  assertEquals(await guest.dropped("denied"), 1);
});
