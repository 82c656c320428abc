/** Connections of sandboxes that may reach named domains only. */
export { endEgressProxy, startEgressProxy } from "./host_egress.ts";
export type { EgressProxy, EgressSlot, EgressStats } from "./types.ts";
