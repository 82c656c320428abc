import type { Scenario } from "../lane.ts";
import { agentKilled } from "./agent_killed.ts";
import { fork } from "./fork.ts";
import { freedMemory } from "./freed_memory.ts";
import { generations } from "./generations.ts";
import { host } from "./host.ts";
import { pagerKilled } from "./pager_killed.ts";
import { siblings } from "./siblings.ts";

/** All scenarios in the order in which they run: what the later ones build on comes first. */
export const SCENARIOS: readonly Scenario[] = [
  host,
  generations,
  agentKilled,
  siblings,
  freedMemory,
  fork,
  pagerKilled,
];
