import { softDirtySupported } from "@torpor/ffi";
import type { TrackingMethod } from "../../../services/hostagent/memory/tracking/method.ts";
import { Chain } from "./chain.ts";
import { PropertyHost, type Sabotage } from "./property_host.ts";
import { Random } from "./random.ts";

/** Two processors; a chain waits for processes and files most of the time. */
const CHAINS_AT_ONCE = 3;

/** Which chains to run. */
export interface ChainsOptions {
  /** The compiled user_vmm. */
  program: string;
  /** The seed of the first chain; each further one has the next number. */
  first: number;
  count: number;
  /** Prints what each chain does. */
  steps?: boolean;
  /** How written pages are found; by default the seed decides. */
  tracking?: TrackingMethod;
  /** Whether siblings share a base; by default the seed decides. */
  sharedBase?: boolean;
  sabotage?: Sabotage;
  /** Ends after so many failures. */
  maxWrong?: number;
}

/** How often each way to find written pages is taken; a kernel without soft-dirty marks compares instead. */
const TRACKING: Record<TrackingMethod, number> = { pagemap_scan: 7, soft_dirty: 1, compare: 2 };

/** How often siblings share a base. */
const SHARED_BASE_CHANCE = 0.7;

/** More failures than these only repeat the first ones. */
const DEFAULT_MAX_WRONG = 5;

/** How they went. */
export interface ChainsResult {
  checked: number;
  /** For each failed chain its seed, what was wrong and the steps that led there. */
  wrong: string[];
}

/** Runs chains, a few at once, each on a host of its own, and prints their seeds: TORPOR_PROPERTY_SEED repeats one. */
export async function runChains(options: ChainsOptions): Promise<ChainsResult> {
  const { first, count, maxWrong = DEFAULT_MAX_WRONG } = options;
  const result: ChainsResult = { checked: 0, wrong: [] };
  console.log(`chain_seeds ${first} … ${first + count - 1}`);
  let next = first;
  const lane = async () => {
    while (next < first + count && result.wrong.length < maxWrong) {
      const seed = next++;
      const failure = await runChain(seed, options);
      if (failure) {
        console.log(`chain_wrong ${seed}`);
        result.wrong.push(failure);
      }
      result.checked++;
    }
  };
  await Promise.all(Array.from({ length: CHAINS_AT_ONCE }, lane));
  return result;
}

/** Runs the chain of one seed. @returns what went wrong and how it came to that, or undefined. */
async function runChain(seed: number, options: ChainsOptions): Promise<string | undefined> {
  const { program, steps, sabotage } = options;
  const random = new Random(seed);
  const chosen = random.weighted(TRACKING);
  const tracking = options.tracking ?? (chosen === "soft_dirty" && !softDirtySupported() ? "compare" : chosen);
  const shares = random.chance(SHARED_BASE_CHANCE);
  const sharedBase = options.sharedBase ?? shares;
  await using host = await PropertyHost.start({ program, tracking, sharedBase, sabotage });
  const chain = new Chain(host, random);
  try {
    await chain.run();
    return undefined;
  } catch (error) {
    return `seed ${seed}:\n  ${chain.steps.join("\n  ")}\n${Deno.inspect(error)}`;
  } finally {
    if (steps) console.log(chain.steps.join("\n"));
  }
}
