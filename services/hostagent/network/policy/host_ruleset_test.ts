import { assertEquals, assertMatch } from "@std/assert";
import { DEFAULT_POLICY } from "../types.ts";
import { applyRuleset } from "./apply_ruleset.ts";
import { readDropped } from "./counters.ts";
import { hostRuleset, hostTable } from "./host_ruleset.ts";
import type { HostReason } from "./reasons.ts";
import { slotRuleset } from "./slot_ruleset.ts";
import { type Actor, CONFIG, Lab, WEB } from "./testing/lab.ts";

const ANOTHER_PROGRAM = "table inet another_program {\nchain input {\ncounter\n}\n}\n";

/** Two slots whose own rules are gone, as if they had failed, behind the rules of the agent's namespace. */
async function start(): Promise<Lab> {
  const lab = await Lab.make({ slots: 2 });
  const agent = lab.namespace("agent");
  await applyRuleset(ANOTHER_PROGRAM, agent);
  await applyRuleset(hostRuleset(CONFIG), agent);
  for (const { slotAddress, namespace } of lab.slots) {
    const translated = `snat ip to ${slotAddress}`;
    await applyRuleset(
      `table ip open {\nchain origin {\ntype nat hook postrouting priority srcnat;\noifname "up0" ${translated}\n}\n}\n`,
      namespace,
    );
  }
  return lab;
}

/** Sends until a packet was dropped for a reason. */
async function untilDropped(lab: Lab, reason: HostReason, send: () => void): Promise<void> {
  const count = async () => (await readDropped(hostTable(CONFIG), lab.namespace("agent")))[reason]!.packets;
  const before = await count();
  send();
  while (await count() <= before);
}

let sent = 0;
function datagram(actor: Actor, host: string, port = 443): () => void {
  return () => void actor.tell({ do: "send", host, port, as: `d${sent++}`, text: "hello" });
}

Deno.test("even without rules of its own a slot reaches the internet only, by the agent's address", async () => {
  await using lab = await start();
  const [guest, agent, internet] = [lab.actor("guest0"), lab.actor("agent"), lab.actor("internet")];
  for (const port of [22, 443]) await internet.tell({ do: "serve_tcp", host: "::", port, as: `tcp${port}` });
  assertEquals(
    await guest.tell({ do: "connect", host: WEB, port: 22, as: "web" }),
    "tcp22 sees ::ffff:198.51.100.2",
  );
  for (const address of ["10.20.30.40", "172.20.30.40", "192.168.30.40", "100.100.100.200", "168.63.129.16"]) {
    await untilDropped(lab, "reserved_address", datagram(guest, address));
  }
  // The host itself, by each of its addresses; a service that listens everywhere is not reached.
  for (const port of [22, 17_080]) await agent.tell({ do: "serve_tcp", host: "0.0.0.0", port, as: `host${port}` });
  for (const address of ["10.250.0.0", "198.51.100.2", "10.250.0.2"]) {
    await untilDropped(lab, "to_host", datagram(guest, address));
    await untilDropped(
      lab,
      "to_host",
      () => void guest.tell({ do: "connect", host: address, port: 22, as: `to ${address}` }),
    );
  }
  // The other slot.
  await untilDropped(lab, "between_slots", datagram(guest, "10.250.0.3"));
});

Deno.test("of the host a slot reaches the egress proxy at its own end of the link, and not at another's", async () => {
  await using lab = await start();
  const [guest, agent] = [lab.actor("guest0"), lab.actor("agent")];
  const { httpPort, tlsPort } = CONFIG.egress;
  for (const port of [httpPort, tlsPort]) {
    await agent.tell({ do: "serve_tcp", host: "0.0.0.0", port, as: `proxy${port}` });
    assertEquals(
      await guest.tell({ do: "connect", host: "10.250.0.0", port, as: `${port}` }),
      `proxy${port} sees 10.250.0.1`,
    );
  }
  await untilDropped(
    lab,
    "to_host",
    () => void guest.tell({ do: "connect", host: "10.250.0.2", port: httpPort, as: "other" }),
  );
});

Deno.test("nobody outside of it calls a slot, and a slot uses its own address only", async () => {
  await using lab = await start();
  const [guest, internet] = [lab.actor("guest0"), lab.actor("internet")];
  await untilDropped(lab, "unsolicited", datagram(internet, "10.250.0.1"));
  await applyRuleset("delete table ip open\n", lab.slots[0]!.namespace);
  await untilDropped(lab, "spoofed", datagram(guest, WEB));
});

Deno.test("the table of the agent is replaced as a whole, and others are left alone", async () => {
  await using lab = await start();
  const before = await lab.run("agent", "nft", "list", "table", "inet", hostTable(CONFIG));
  await applyRuleset(hostRuleset(CONFIG), lab.namespace("agent"));
  const without = (text: string) => text.replace(/packets \d+ bytes \d+/g, "");
  assertEquals(without(await lab.run("agent", "nft", "list", "table", "inet", hostTable(CONFIG))), without(before));
  assertMatch(await lab.run("agent", "nft", "list", "tables"), /another_program/);
  assertMatch(await lab.run("agent", "nft", "list", "table", "inet", "another_program"), /counter packets/);
  // The rules of a slot know nothing of the agent's namespace.
  assertEquals(slotRuleset(CONFIG, lab.slots[0]!, DEFAULT_POLICY).includes(hostTable(CONFIG)), false);
});
