import { log } from "@torpor/telemetry";
import { applyRuleset, hostTable } from "./policy/mod.ts";
import type { NetworkConfig } from "./types.ts";

/** Takes the agent's table out of its namespace. Never throws. */
export async function removeHostRules(config: NetworkConfig): Promise<void> {
  try {
    await applyRuleset(`add table inet ${hostTable(config)}\ndelete table inet ${hostTable(config)}\n`);
  } catch (error) {
    log("info", "host_rules_not_removed", {}, error);
  }
}
