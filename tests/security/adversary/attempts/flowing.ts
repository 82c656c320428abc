/** Attempts to keep what a policy has taken away: connections that are open, a pause, a killed agent. */
import { INTERNET_PORTS, PUBLIC } from "../../ground/mod.ts";
import type { Arena } from "../arena.ts";
import { type Attempt, unless } from "../attempt.ts";
import { gotThrough } from "./reaching.ts";

const EVERYTHING = { allowInternetAccess: true };
/** Nothing, not even by name. */
const NOTHING = { allowInternetAccess: false };
const PATIENT_MS = 10_000;
const TIMEOUT_MS = 1_500;
/** Echoes come every 100 ms when nothing is in their way. */
const WATCH_MS = 2_000;

/** How many echoes have come back, by the file where `probe flow` writes. */
async function echoes({ intruder }: Arena, file: string): Promise<number> {
  return Number(await intruder.shell(`grep -c echo ${file} || true`));
}

/** Waits until more have come than `before`; false: none came for as long as a guest may need. */
async function goesOn(arena: Arena, file: string, before: number): Promise<boolean> {
  const deadline = performance.now() + PATIENT_MS;
  while (performance.now() < deadline) if (await echoes(arena, file) > before) return true;
  return false;
}

/** A connection that is open when its destination gets denied. */
function keepsFlow(name: string, quick: boolean, denied: Parameters<Arena["intruder"]["allow"]>[0]): Attempt {
  let file: string;
  return {
    name,
    quick,
    async control(arena) {
      await arena.intruder.allow(EVERYTHING);
      file = await arena.intruder.background("flow", PUBLIC.web, INTERNET_PORTS.echo);
      // A change that does not concern it leaves it alone.
      await arena.intruder.allow({ ...EVERYTHING, denyOut: [`${PUBLIC.otherWeb}/32`] });
      return await goesOn(arena, file, await echoes(arena, file) + 2) ? undefined : "an open connection has ended";
    },
    async attack(arena) {
      await arena.intruder.allow(denied);
      try {
        const before = await echoes(arena, file);
        await arena.ground.forget();
        await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
        const after = await echoes(arena, file);
        return after > before ? `${after - before} more echoes` : await gotThrough(arena, PUBLIC.web);
      } finally {
        await arena.intruder.allow(EVERYTHING);
        await arena.intruder.shell("pkill probe -f 'probe flow' || true");
      }
    },
  };
}

/** What is denied stays so after `event`. */
function stays(name: string, quick: boolean, event: (arena: Arena) => Promise<void>): Attempt {
  const connect = (arena: Arena, address: string, ms: number) =>
    arena.intruder.probe("connect", address, INTERNET_PORTS.echo, ms, "");
  return {
    name,
    quick,
    async control(arena) {
      await arena.intruder.allow({ ...EVERYTHING, denyOut: [`${PUBLIC.web}/32`] });
      await event(arena);
      return unless(await connect(arena, PUBLIC.bystander, PATIENT_MS), "open");
    },
    async attack(arena) {
      try {
        const word = await connect(arena, PUBLIC.web, TIMEOUT_MS);
        return word === "open" ? word : await gotThrough(arena, PUBLIC.web);
      } finally {
        await arena.intruder.allow(EVERYTHING);
      }
    },
  };
}

/** All of them. */
export const flowingAttempts: Attempt[] = [
  keepsFlow("an open connection to a newly denied address", true, { ...EVERYTHING, denyOut: [`${PUBLIC.web}/32`] }),
  keepsFlow("an open connection when everything gets denied", false, NOTHING),
  stays("a denied address after a pause and a resume", true, (arena) => arena.sleepAndWake()),
  stays("a denied address after the agent was killed", true, (arena) => arena.restartAgent()),
];
