/** What sandboxes may reach: the form of it, and the addresses that no sandbox may ever reach. */
export * from "./cidr.ts";
export * from "./domain_rule.ts";
export * from "./network_policy.ts";
export * from "./parse_policy.ts";
export * from "./reserved.ts";
