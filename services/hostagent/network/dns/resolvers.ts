import ipaddr from "ipaddr.js";
import { TorporError } from "@torpor/errors";
import { isReservedAddress } from "../reserved.ts";

/** Where guests' queries go when `TORPOR_DNS` says nothing. */
export const DEFAULT_RESOLVERS: readonly string[] = ["1.1.1.1", "8.8.8.8"];

/** Each resolver is a rule of every slot. */
const MAX_RESOLVERS = 4;

/**
 * Reads `TORPOR_DNS`: the resolvers that guests' queries are sent to, and that the egress proxy asks.
 * They must be public IPv4 addresses: a private one would be a hole in what separates guests from the operator's network, and
 * guests' queries leave their slot by IPv4.
 * @param text addresses separated by commas; empty or absent: {@linkcode DEFAULT_RESOLVERS}.
 * @throws TorporError `config_invalid` (field `TORPOR_DNS`) that names the entry at fault.
 */
export function parseResolvers(text: string | undefined): string[] {
  if (text === undefined || text.trim() === "") return [...DEFAULT_RESOLVERS];
  const resolvers = text.split(",").map((entry) => entry.trim());
  for (const [index, resolver] of resolvers.entries()) {
    const fault = faultOf(resolver) ?? (resolvers.indexOf(resolver) < index ? "is named twice" : undefined);
    if (fault) throw invalid(`"${resolver.slice(0, 64)}" ${fault}`);
  }
  if (resolvers.length > MAX_RESOLVERS) throw invalid(`more than ${MAX_RESOLVERS} resolvers`);
  return resolvers;
}

function faultOf(resolver: string): string | undefined {
  if (ipaddr.IPv6.isValid(resolver)) return "is an IPv6 address: guests' queries leave by IPv4";
  // What isValid takes besides (octal, hexadecimal, fewer parts) other programs read as another address.
  if (!ipaddr.IPv4.isValidFourPartDecimal(resolver)) return "is not an IPv4 address";
  if (ipaddr.IPv4.parse(resolver).toString() !== resolver) return "is not an IPv4 address in its usual form";
  if (isReservedAddress(resolver)) return "is not a public address";
  return undefined;
}

function invalid(fault: string): TorporError {
  return new TorporError("config_invalid", `invalid configuration: TORPOR_DNS: ${fault}`, {
    field: "TORPOR_DNS",
    hint: "set TORPOR_DNS to public IPv4 addresses of resolvers, separated by commas, such as 1.1.1.1,8.8.8.8",
  });
}
