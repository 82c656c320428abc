/** The network of this host's virtual machines. */
export { type NetworkSettings, openNetworks } from "./open_networks.ts";
export { DEFAULT_CIDR, parseSlotCidr } from "./slots/addresses.ts";
export * from "./vm_network.ts";
