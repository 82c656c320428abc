import ipaddr from "ipaddr.js";
import { TorporError } from "@torpor/errors";
import { type Cidr, isWithin, parseCidr } from "@torpor/network";
import { GUEST_NETWORK, type NetworkConfig, type Slot } from "../types.ts";

/** Where the slots' outer addresses come from when `TORPOR_NETWORK_CIDR` says nothing. */
export const DEFAULT_CIDR = "10.250.0.0/16";

/** The slots' outer addresses are nobody else's: of ranges that are not routed in the internet. */
const USABLE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].map(known);
const GUESTS = known(`10.249.0.0/${GUEST_NETWORK.prefix}`);
/** 16 slots. */
const LONGEST_PREFIX = 27;
const ADDRESSES_PER_SLOT = 2;
/** The most digits that a device's name has room for. */
const MAX_SLOTS = 100_000;

/**
 * Reads `TORPOR_NETWORK_CIDR`.
 * @throws TorporError `config_invalid`.
 */
export function parseSlotCidr(text: string): string {
  const cidr = parseCidr(text);
  if ("problem" in cidr) throw invalid(cidr.problem);
  if (!USABLE.some((range) => isWithin(cidr, range))) throw invalid("is not a private IPv4 range");
  if (cidr.prefix > LONGEST_PREFIX) {
    throw invalid(`has room for fewer than 16 slots: /${LONGEST_PREFIX} or more is needed`);
  }
  if (isWithin(GUESTS, cidr)) throw invalid(`contains the address of all guests, ${GUEST_NETWORK.address}`);
  return cidr.text;
}

/** How many slots a range has room for. */
export function slotCount({ cidr }: Pick<NetworkConfig, "cidr">): number {
  return Math.min(2 ** (32 - known(cidr).prefix) / ADDRESSES_PER_SLOT, MAX_SLOTS);
}

/** The slot with this number, from 0: its names and addresses follow from it. */
export function slotAt({ cidr, agentId, namespacePrefix }: NetworkConfig, index: number): Slot {
  const base = known(cidr).address.toByteArray().reduce((number, byte) => number * 256 + byte, 0);
  const address = (number: number) => [24, 16, 8, 0].map((shift) => (number >>> shift) & 0xff).join(".");
  return {
    index,
    namespace: `${namespacePrefix}${index}`,
    vethHost: `${vethPrefix(agentId)}${index}`,
    hostAddress: address(base + ADDRESSES_PER_SLOT * index),
    slotAddress: address(base + ADDRESSES_PER_SLOT * index + 1),
  };
}

/** Of the names of an agent's veth devices; the slot's number follows. */
export function vethPrefix(agentId: string): string {
  return `tv${agentId}-`;
}

/** True when an IPv4 address is one of the slots' of this range. */
export function isSlotAddress({ cidr }: Pick<NetworkConfig, "cidr">, address: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(address) && isWithin(known(address), known(cidr));
}

function known(text: string): Cidr {
  const cidr = parseCidr(text);
  if ("problem" in cidr) throw new TorporError("internal", `${text} ${cidr.problem}`);
  return cidr;
}

function invalid(fault: string): TorporError {
  return new TorporError("config_invalid", `invalid configuration: TORPOR_NETWORK_CIDR ${fault}`, {
    field: "TORPOR_NETWORK_CIDR",
    hint: `a range such as ${DEFAULT_CIDR}`,
  });
}
