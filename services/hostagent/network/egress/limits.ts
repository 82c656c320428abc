/** What one sandbox, and all of them together, can make the proxy hold. Times in ms, sizes in bytes. */
export interface EgressLimits {
  /** Open connections of one sandbox; each takes two descriptors. */
  connectionsPerSlot: number;
  /** Open connections of all sandboxes. */
  connections: number;
  /** A ClientHello with its record headers: what browsers send with post-quantum keys has 2 KiB. */
  helloBytes: number;
  /** Request line and headers. */
  requestHeadBytes: number;
  /** From the accepted connection to the end of the hello or request head. Ends protocols in which the server speaks first. */
  headMs: number;
  /** For the addresses of a name. */
  resolveMs: number;
  /** For one address to answer. */
  connectMs: number;
  /** Without a byte in either direction. */
  idleMs: number;
}

export const EGRESS_LIMITS: EgressLimits = {
  connectionsPerSlot: 256,
  connections: 2048,
  helloBytes: 16_384,
  requestHeadBytes: 16_384,
  headMs: 10_000,
  resolveMs: 8_000,
  connectMs: 10_000,
  idleMs: 600_000,
};
