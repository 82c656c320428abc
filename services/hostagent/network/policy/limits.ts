/** What a sandbox's network may use at most. */
export interface NetworkLimits {
  /** Each way, megabits per second; 0: no limit. */
  rateMbit: number;
  /** At the same time, of UDP, too; 0: no limit. Each takes two of the kernel's entries, which all sandboxes share. */
  connections: number;
  /** How `rateMbit` is kept: packets wait (`tc`), or, where the kernel has no such queue, they are dropped (`nft`). */
  rateBy: "tc" | "nft";
}

/** Of a host that nothing was said about. */
export const DEFAULT_LIMITS: Readonly<NetworkLimits> = { rateMbit: 0, connections: 1024, rateBy: "tc" };
