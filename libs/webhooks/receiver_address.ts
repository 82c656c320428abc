import { lookup } from "node:dns/promises";
import { DeliveryError } from "./delivery_error.ts";
import { literalAddress } from "./endpoint_url.ts";
import { canonicalAddress, isPublicAddress } from "./public_address.ts";

/** Resolves a name to addresses. */
export type Lookup = (hostname: string) => Promise<string[]>;

/** As the rest of the machine resolves names: /etc/hosts, then DNS. */
export const systemLookup: Lookup = async (hostname) =>
  (await lookup(hostname, { all: true, order: "ipv4first" })).map(({ address }) => address);

/**
 * The addresses of a receiver, which the caller connects to and to no others: whatever the name resolves to a moment later,
 * nothing asks again. All of them must be allowed, so that a name cannot mix a public one with one of this network.
 * @throws DeliveryError `name_not_resolved`, `address_not_public`.
 */
export async function receiverAddresses(
  url: URL,
  { lookup, allowPrivate }: { lookup: Lookup; allowPrivate: boolean },
): Promise<string[]> {
  const literal = literalAddress(url);
  const found = literal === undefined ? await resolved(url.hostname, lookup) : [literal];
  const own = allowPrivate ? new Set<string>() : ownAddresses();
  if (!allowPrivate && found.some((address) => !isPublicAddress(address) || own.has(canonicalAddress(address)!))) {
    throw new DeliveryError("address_not_public");
  }
  return found;
}

async function resolved(hostname: string, lookup: Lookup): Promise<string[]> {
  let addresses: string[];
  try {
    addresses = await lookup(hostname);
  } catch (cause) {
    throw new DeliveryError("name_not_resolved", cause);
  }
  if (addresses.length === 0) throw new DeliveryError("name_not_resolved");
  return addresses;
}

/** Also a public address leads inside when it is this machine's: what listens on all interfaces answers there. */
function ownAddresses(): Set<string> {
  return new Set(Deno.networkInterfaces().map(({ address }) => canonicalAddress(address) ?? address));
}
