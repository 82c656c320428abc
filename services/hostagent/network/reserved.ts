/** The addresses that no sandbox ever reaches, whatever its policy says. */
export { isInRange, isReservedAddress, RESERVED_IPV4, RESERVED_IPV6 } from "@torpor/network";
