import { z } from "zod";
import { DEFAULT_POLICY, type NetworkPolicy } from "../network/types.ts";

/** What a sandbox may reach, as its record has it. */
export const recordedNetworkSchema = z.strictObject({
  allow_internet_access: z.boolean(),
  allow_out: z.array(z.string()),
  deny_out: z.array(z.string()),
  /** Of the control plane: the newest change that this host has been told. */
  revision: z.number().int().nonnegative(),
});

/** See {@linkcode recordedNetworkSchema}. */
export type RecordedNetwork = z.infer<typeof recordedNetworkSchema>;

/** A policy together with the number of the change that has brought it. */
export interface NetworkUpdate {
  policy: NetworkPolicy;
  revision: number;
}

/** What the record of a sandbox has that nothing was said about. */
export const DEFAULT_NETWORK: RecordedNetwork = recordNetwork({ policy: DEFAULT_POLICY, revision: 0 });

/** For the record. */
export function recordNetwork({ policy, revision }: NetworkUpdate): RecordedNetwork {
  const { allowInternetAccess, allowOut, denyOut } = policy;
  return { allow_internet_access: allowInternetAccess, allow_out: allowOut, deny_out: denyOut, revision };
}

/** What a sandbox may reach by its record. */
export function recordedPolicy({ network }: { network: RecordedNetwork }): NetworkPolicy {
  return {
    allowInternetAccess: network.allow_internet_access,
    allowOut: network.allow_out,
    denyOut: network.deny_out,
  };
}
