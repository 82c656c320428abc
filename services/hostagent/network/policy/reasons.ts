/** Why a packet was dropped: a counter of each is in the table of a slot. */
export const SLOT_REASONS = [
  /** The guest used another MAC, IP or ARP address than its own. */
  "spoofed",
  /** It belongs to no connection that there can be. */
  "invalid",
  /** From outside, and no answer to anything. */
  "unsolicited",
  /** To a private, reserved or metadata address, or one of the host. */
  "reserved_address",
  /** To a resolver that is not configured, or DNS where there is nothing to be resolved. */
  "dns",
  /** To what the sandbox's own policy denies. */
  "denied",
  /** To more destinations at the same time than a sandbox may have connections. */
  "too_many_connections",
  /** Beyond the rate of a sandbox. Only where the kernel cannot shape traffic; then packets wait instead. */
  "rate",
  /** To the namespace itself, or by a way that there is not. */
  "no_way",
] as const;

/** One of {@linkcode SLOT_REASONS}. */
export type SlotReason = typeof SLOT_REASONS[number];

/** The same in the agent's namespace. */
export const HOST_REASONS = [
  /** From an address that is not the slot's. */
  "spoofed",
  /** From one slot to another. */
  "between_slots",
  /** To a private, reserved or metadata address. */
  "reserved_address",
  /** To the host itself. */
  "to_host",
  /** From outside, and no answer to anything. */
  "unsolicited",
] as const;

/** One of {@linkcode HOST_REASONS}. */
export type HostReason = typeof HOST_REASONS[number];
