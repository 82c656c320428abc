import type { Arena } from "../../security/adversary/arena.ts";
import { INTERNET_PORTS, Namespace, PUBLIC } from "../../security/ground/mod.ts";
import { median } from "../snapshots/median.ts";

/** Measured in turns with our rules and without any, so that other work on the machine weighs on both. */
const TURNS = 5;
const STREAM_MS = 2000;
const ROUND_TRIPS = 500;
const ADDRESS = PUBLIC.web;

interface Traffic {
  out: number;
  in: number;
  p50: number;
  p99: number;
}

/** What a guest's network does with the rules of its slot and of the host, and on the same tap with none. */
export async function benchTraffic(arena: Arena): Promise<Record<string, number>> {
  const ruled: Traffic[] = [];
  const bare: Traffic[] = [];
  await routeToGuest(arena);
  for (let turn = 0; turn < TURNS; turn++) {
    ruled.push(await measure(arena));
    await removeRules(arena);
    bare.push(await measure(arena));
    // An agent that starts makes its own rules, and those of each sandbox that it adopts.
    await arena.restartAgent();
  }
  const of = (all: Traffic[], pick: (one: Traffic) => number) => median(all.map(pick));
  const [out, bareOut] = [ruled, bare].map((all) => of(all, (one) => one.out)) as [number, number];
  const [into, bareIn] = [ruled, bare].map((all) => of(all, (one) => one.in)) as [number, number];
  return {
    guest_to_outside_mb_per_s: out / 1e6,
    guest_to_outside_over_bare: out / bareOut,
    outside_to_guest_mb_per_s: into / 1e6,
    outside_to_guest_over_bare: into / bareIn,
    round_trip_p50_us: of(ruled, ({ p50 }) => p50),
    round_trip_p99_us: of(ruled, ({ p99 }) => p99),
    round_trip_bare_p50_us: of(bare, ({ p50 }) => p50),
    round_trip_bare_p99_us: of(bare, ({ p99 }) => p99),
  };
}

async function measure({ intruder: guest }: Arena): Promise<Traffic> {
  const out = Number(await guest.probe("send", ADDRESS, INTERNET_PORTS.sink, STREAM_MS));
  const into = Number(await guest.probe("receive", ADDRESS, INTERNET_PORTS.source, STREAM_MS));
  const [p50, p99] = (await guest.probe("rounds", ADDRESS, INTERNET_PORTS.echo, ROUND_TRIPS)).split(" ").map(Number);
  return { out, in: into, p50: p50!, p99: p99! };
}

/** Without rules nothing translates the guest's address: whoever answers must know where it is. */
async function routeToGuest({ ground, intruder }: Arena): Promise<void> {
  await ground.agent.ip([`route add 10.249.0.2/32 via ${intruder.slot.slotAddress}`]);
}

/** Takes all rules of the slot and of the agent away; what notes arrivals on the ground costs the same with and without them. */
async function removeRules({ ground, intruder }: Arena): Promise<void> {
  await Namespace.at(intruder.slot.namespace).nft("flush ruleset\n");
  const tables = (await ground.agent.run("nft", "list", "tables")).split("\n");
  const own = tables.filter((table) => table !== "" && !table.endsWith(" sightings"));
  await ground.agent.nft(own.map((table) => `delete ${table}\n`).join(""));
}
