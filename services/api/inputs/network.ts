import { z } from "@hono/zod-openapi";
import { MAX_POLICY_ENTRIES, type NetworkPolicy, parsePolicy } from "@torpor/network";

const entries = z.array(z.string().max(256)).max(MAX_POLICY_ENTRIES).default([]);

/** What a sandbox may reach. */
export const networkPolicy = z.strictObject({
  allow_internet_access: z.boolean().default(true).openapi({
    description: "What happens to a destination that neither list names.",
  }),
  allow_out: entries.openapi({
    description:
      "IP addresses, CIDRs and domains (`example.com`, `*.example.com`); wins over deny_out. Domains only where " +
      "everything else is denied.",
    example: ["1.1.1.1", "*.example.com"],
  }),
  deny_out: entries.openapi({
    description: "IP addresses and CIDRs; `0.0.0.0/0` is everything, also of IPv6.",
    example: ["0.0.0.0/0"],
  }),
}).openapi("NetworkPolicy", {
  description: "What a sandbox may reach. Private, reserved and metadata addresses and those of the host are denied " +
    "whatever it says.",
});

/** The same at creation, with what stays as it is. */
export const sandboxNetwork = networkPolicy.extend({
  allow_public_traffic: z.boolean().default(true).openapi({
    description: "false: requests to its ports must show its `traffic_access_token`. It stays as it was created.",
  }),
}).openapi("SandboxNetwork");

/**
 * Checks each entry and brings it into its shortest form.
 * @param prefix of the fields that errors name, as "network.".
 * @throws TorporError `invalid_argument` with the entry at fault.
 */
export function toNetworkPolicy(input: z.output<typeof networkPolicy>, prefix: string): NetworkPolicy {
  const { allow_internet_access: allowInternetAccess, allow_out: allowOut, deny_out: denyOut } = input;
  return parsePolicy({ allowInternetAccess, allowOut, denyOut }, prefix);
}

/** As the REST API shows it. */
export function viewNetworkPolicy(policy: NetworkPolicy): z.output<typeof networkPolicy> {
  return {
    allow_internet_access: policy.allowInternetAccess,
    allow_out: policy.allowOut,
    deny_out: policy.denyOut,
  };
}
