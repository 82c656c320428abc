/**
 * The life of a sandbox: the transition table, the operations journal, and {@linkcode Lifecycle}, which carries
 * operations out. Used by the api (begins operations) and the reconciler (finishes what was left behind).
 */
export * from "./activity.ts";
export * from "./adopt.ts";
export * from "./deadlines.ts";
export type { Fork, ForkRequest, StartedFork } from "./forks.ts";
export * from "./host_clients.ts";
export { claimRequest, requestHash } from "./idempotency.ts";
export * from "./journal.ts";
export * from "./lifecycle.ts";
export { repeatNetwork, type UpdatedNetwork } from "./network.ts";
export * from "./outcome.ts";
export type { RequestOptions, StartedOperation } from "./requests.ts";
export { operationError } from "./runner.ts";
export type { Settled } from "./settle.ts";
export type { SettledFork } from "./settle_forks.ts";
export { removeSnapshot, type SnapshotRequest, type StartedSnapshot } from "./snapshots.ts";
export * from "./states.ts";
export * from "./transition.ts";
