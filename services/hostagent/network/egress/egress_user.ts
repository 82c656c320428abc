/** The proxy's user where the agent is root: below those of virtual machines, and nobody else's. */
export const EGRESS_UID = 699_999;

/** Whom the proxy's process becomes; undefined: it stays who the agent is. */
export function egressUser(): number | undefined {
  return Deno.uid() === 0 ? EGRESS_UID : undefined;
}
