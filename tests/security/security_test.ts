/** The shorter cut of `./torpor test security`. */
import { assertEquals, assertGreater } from "@std/assert";
import { Arena } from "./adversary/arena.ts";
import { ATTEMPTS } from "./adversary/attempts/mod.ts";
import { runAttempts } from "./adversary/run_attempts.ts";
import { runChurn } from "./churn/churn.ts";
import { Namespace } from "./ground/mod.ts";

const QUICK_ROUNDS = 6;

/** Attempts that rules alone stand against. */
const NOTICED = [
  "metadata by tcp",
  "RFC 1918 192.168/16 by tcp",
  "host's api at the slot's gateway",
  "host's UDP service",
  "other sandbox's slot address by tcp",
  "source address of nobody",
  "MAC address of nobody",
  "raw IP to a private address",
];

Deno.test("nothing that an intruder tries from inside of a guest gets through", async (t) => {
  await using arena = await Arena.open();
  await t.step("with the rules as they are", async () => {
    const results = await runAttempts(arena, ATTEMPTS.filter(({ quick }) => quick), () => {});
    assertGreater(results.length, 24);
    assertEquals(results.filter(({ breach, controlFailed }) => breach ?? controlFailed), []);
  });
  await t.step("and without them it would be noticed", async () => {
    await removeRules(arena);
    const results = await runAttempts(arena, ATTEMPTS.filter(({ name }) => NOTICED.includes(name)), () => {});
    assertEquals(results.filter(({ breach }) => breach === undefined), []);
    assertEquals(results.length, NOTICED.length);
  });
});

/** Nothing is left but the translation of addresses, without which no packet would come back. */
async function removeRules({ ground, intruder }: Arena): Promise<void> {
  const slot = Namespace.at(intruder.slot.namespace);
  for (const [namespace, device] of [[slot, "up0"], [ground.agent, "wan0"]] as const) {
    const tables = (await namespace.run("nft", "list", "tables")).split("\n");
    const rules = tables.filter((table) => table !== "" && !table.endsWith(" sightings"));
    const masquerade = `type nat hook postrouting priority srcnat; oifname "${device}" masquerade;`;
    await namespace.nft(
      [...rules.map((table) => `delete ${table}`), `table ip bare { chain origin { ${masquerade} }; }`, ""].join("\n"),
    );
  }
}

Deno.test("sandboxes that come and go while agents and machines are killed leave nothing", async () => {
  const { rounds, leaks, failures } = await runChurn({ rounds: QUICK_ROUNDS, seed: 5 });
  assertEquals([rounds, leaks, failures], [QUICK_ROUNDS, [], []]);
});
