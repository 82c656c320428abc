/** The rules that sandboxes' packets pass: in a slot's namespace and in the agent's. */
export { MAX_POLICY_ENTRIES, parsePolicy } from "@torpor/network";
export * from "./apply_policy.ts";
export { applyRuleset } from "./apply_ruleset.ts";
export * from "./counters.ts";
export * from "./host_ruleset.ts";
export * from "./limits.ts";
export { chooseLimits, limitRate } from "./rate_limit.ts";
export * from "./reasons.ts";
export * from "./slot_ruleset.ts";
