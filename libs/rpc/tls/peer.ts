import { isId } from "@torpor/ids";

/** Services of the control plane that have certificates. */
export const CONTROL_PEERS = ["api", "scheduler", "reconciler"] as const;

const HOST_SUFFIX = ".host";
const DOMAIN = ".torpor.internal";

/**
 * True for the name of who can have a certificate: a service of the control plane by its name, a host agent as
 * `<host id>.host`. The name says the role, too.
 */
export function isPeer(peer: string): boolean {
  return isControlPeer(peer) || hostIdOfPeer(peer) !== undefined;
}

/** True for the name of a service of the control plane. */
export function isControlPeer(peer: string): boolean {
  return (CONTROL_PEERS as readonly string[]).includes(peer);
}

/** The name of a host agent. */
export function hostPeer(hostId: string): string {
  return hostId + HOST_SUFFIX;
}

/** The host that a name stands for; undefined for every other name. */
export function hostIdOfPeer(peer: string): string | undefined {
  const id = peer.endsWith(HOST_SUFFIX) ? peer.slice(0, -HOST_SUFFIX.length) : undefined;
  return isId(id) ? id : undefined;
}

/** The DNS name that stands in a peer's certificate. It is resolved nowhere: addresses say where, names say who. */
export function dnsNameOf(peer: string): string {
  return peer + DOMAIN;
}

/** The peer of a DNS name of a certificate, or undefined. */
export function peerOfDnsName(name: string): string | undefined {
  const peer = name.endsWith(DOMAIN) ? name.slice(0, -DOMAIN.length) : "";
  return isPeer(peer) ? peer : undefined;
}
