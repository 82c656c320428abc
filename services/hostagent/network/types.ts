/**
 * What the parts of the host's network agree on: its configuration, a slot of it, and what a sandbox may reach.
 * @module
 */

import type { NetworkLimits } from "./policy/limits.ts";

/** How the network of one host agent is laid out; fixed for the life of the process. */
export interface NetworkConfig {
  /** IPv4 range of the slots' outer addresses: two of them for each slot. Default 10.250.0.0/16. */
  cidr: string;
  /** Resolvers that guests' queries go to: public IP addresses, at least one. */
  dns: string[];
  /** Short and stable, one for each data directory: names of namespaces, devices and rules carry it. */
  agentId: string;
  /** `torpor-<agentId>-`; the slot's index follows. */
  namespacePrefix: string;
  /** TCP ports on the agent's side of each veth pair where the egress proxy listens. */
  egress: EgressPorts;
  /** What one sandbox's network may use; absent: `DEFAULT_LIMITS`. */
  limits?: NetworkLimits;
}

export interface EgressPorts {
  httpPort: number;
  tlsPort: number;
}

/**
 * The network of one virtual machine: a namespace with the guest's tap device and one end of a veth pair, whose other end is in the
 * agent's namespace.
 */
export interface Slot {
  index: number;
  /** Name under /run/netns. */
  namespace: string;
  /** Device in the agent's namespace; its peer in the slot's namespace is `up0`. */
  vethHost: string;
  /** IPv4 address of the agent's side of the pair; the slot's default gateway. */
  hostAddress: string;
  /** IPv4 address of the slot's side: what the guest's packets are sent from, once they leave the slot. No two slots share it. */
  slotAddress: string;
}

/** What a sandbox may reach, and that of a sandbox that nothing was said about. */
export { DEFAULT_POLICY, type NetworkPolicy } from "@torpor/network";

/** The same in each guest, so that a snapshot fits every slot of every host. */
export const GUEST_NETWORK = {
  mac: "02:74:72:70:00:02",
  address: "10.249.0.2",
  /** A guest that is resumed goes on to send to the address that it has learned. */
  gatewayMac: "02:74:72:70:00:01",
  gateway: "10.249.0.1",
  prefix: 30,
  address6: "fd74:7270::2",
  gateway6: "fd74:7270::1",
  prefix6: 64,
} as const;

/** In each slot's namespace: the guest's tap device and the slot's end of the veth pair. */
export const TAP_DEVICE = "tap0";
export const UPLINK_DEVICE = "up0";
