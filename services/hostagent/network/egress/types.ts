import type { Slot } from "../types.ts";

/** How the proxy knows a sandbox: by the two ends of its slot's veth pair. */
export type EgressSlot = Pick<Slot, "hostAddress" | "slotAddress">;

/**
 * The host's egress proxy: connections of sandboxes that may reach named domains only. It listens on `slot.hostAddress`, ports
 * `egress.httpPort` and `egress.tlsPort`, for each slot that has rules, and for no other.
 */
export interface EgressProxy {
  /**
   * Sets what a slot's sandbox may reach by name; resolves when it is in force. Connections of the slot that are open and no longer
   * match are cut before that. To be called before a sandbox's vCPUs run, and with `undefined` when its slot is given back.
   * @param domains exact names and `*.example.com` (everything below it, but not itself), in ASCII; `undefined` or empty: nothing is
   * proxied for the slot, all its connections are cut.
   * @throws TorporError `unavailable` when the rules are not in force; the connections are cut then, too.
   */
  setRules(slot: EgressSlot, domains: readonly string[] | undefined): Promise<void>;
  /** Forgets all slots but these: after a restart of the agent, when the sandboxes that run have been found again. */
  retain(slotAddresses: Iterable<string>): Promise<void>;
  stats(): Promise<EgressStats>;
  /**
   * Lets go of the proxy's process.
   * @param keep it goes on without the agent, with its rules and open connections; for an agent that leaves virtual machines behind.
   * Otherwise it is ended.
   */
  close(options: { keep: boolean }): Promise<void>;
}

/** Counts of the proxy's process, since it was started. */
export interface EgressStats {
  /** Absent: there was nothing to do for it yet, or it has just ended. */
  pid: number | undefined;
  slots: number;
  connections: number;
  /** Connections by how they went: `passed` and the refusals' reasons. */
  outcomes: Record<string, number>;
}
