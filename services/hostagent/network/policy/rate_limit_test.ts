import { assert, assertEquals, assertMatch } from "@std/assert";
import { DEFAULT_POLICY } from "../types.ts";
import { applyRuleset } from "./apply_ruleset.ts";
import { readDropped } from "./counters.ts";
import type { NetworkLimits } from "./limits.ts";
import { chooseLimits, limitRate } from "./rate_limit.ts";
import { SLOT_TABLE, slotRuleset } from "./slot_ruleset.ts";
import { CONFIG, Lab, WEB } from "./testing/lab.ts";

/** At this rate the burst is an eighth of a second's worth: what follows it must take its time. */
const RATE_MBIT = 4;
const MEGABIT_BYTES = 125_000;

/** How long a guest takes to send so much and have it sent back, ms. */
async function roundTrip(limits: NetworkLimits, bytes: number): Promise<{ ms: number; droppedPackets: number }> {
  await using lab = await Lab.make();
  const [config, slot] = [{ ...CONFIG, limits }, lab.slots[0]!];
  await limitRate(config, slot);
  await applyRuleset(slotRuleset(config, slot, DEFAULT_POLICY), slot.namespace);
  const [guest, internet] = [lab.actor("guest0"), lab.actor("internet")];
  await internet.tell({ do: "serve_tcp", host: WEB, port: 22, as: "echo" });
  assertMatch(await guest.tell({ do: "connect", host: WEB, port: 22, as: "bulk" }), /^echo/);
  const text = "x".repeat(bytes - 1);
  const start = performance.now();
  assertEquals((await guest.tell({ do: "say", as: "bulk", text })).length, text.length);
  const ms = performance.now() - start;
  return { ms, droppedPackets: (await readDropped(SLOT_TABLE, slot.namespace)).rate!.packets };
}

Deno.test("a rate is kept by letting packets wait, where the kernel can", async () => {
  const limits = await chooseLimits({ rateMbit: RATE_MBIT, connections: 0 });
  const bytes = RATE_MBIT * MEGABIT_BYTES / 2;
  const limited = await roundTrip(limits, bytes);
  // Half a second's worth, less the burst.
  assert(limited.ms > 300, `${limited.ms} ms with ${limits.rateBy}`);
  const free = await roundTrip({ ...limits, rateMbit: 0 }, bytes);
  assert(free.ms < limited.ms / 2, `${free.ms} ms without a limit, ${limited.ms} ms with one`);
});

Deno.test("where it cannot, it is kept by dropping", async () => {
  const limits = { rateMbit: RATE_MBIT, connections: 0, rateBy: "nft" as const };
  const limited = await roundTrip(limits, RATE_MBIT * MEGABIT_BYTES * 3);
  assert(limited.droppedPackets > 0, "nothing was dropped");
  assert(limited.ms > 1000, `${limited.ms} ms`);
});
