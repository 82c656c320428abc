import type { NetworkConfig } from "../types.ts";

/**
 * What the names of an agent's namespaces, devices and rules are made of. Two agents may share a machine and its network
 * namespace: what they make has other names.
 * @param home the data directory.
 */
export async function agentNames(home: string): Promise<Pick<NetworkConfig, "agentId" | "namespacePrefix">> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(home)));
  const agentId = hash.subarray(0, 3).toHex();
  return { agentId, namespacePrefix: `torpor-${agentId}-` };
}
