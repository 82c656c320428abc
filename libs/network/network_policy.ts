/** What a sandbox may reach. Destinations that no sandbox may reach (reserved.ts) come before all of it. */
export interface NetworkPolicy {
  /** What happens to a destination that neither list names. */
  allowInternetAccess: boolean;
  /** IP addresses, CIDRs and domains; wins over `denyOut`. */
  allowOut: string[];
  /** IP addresses and CIDRs. */
  denyOut: string[];
}

/** Of a sandbox that nothing was said about. */
export const DEFAULT_POLICY: Readonly<NetworkPolicy> = { allowInternetAccess: true, allowOut: [], denyOut: [] };

/** In `denyOut`: everything, of IPv6, too, as clients of E2B mean it (their constant ALL_TRAFFIC). */
export const ALL_TRAFFIC = "0.0.0.0/0";

/** True when a destination that `allowOut` does not name is denied. */
export function deniesByDefault({ allowInternetAccess, denyOut }: NetworkPolicy): boolean {
  return !allowInternetAccess || denyOut.includes(ALL_TRAFFIC);
}
