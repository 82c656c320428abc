/** The options of commands that set what a sandbox may reach. */
export const NETWORK_OPTIONS = {
  "no-internet": { type: "boolean", description: "Reach nothing but what --allow-out names" },
  "allow-out": {
    type: "string",
    description: "IP addresses, CIDRs and, when all else is denied, domains to reach, separated by commas",
    valueHint: "list",
  },
  "deny-out": {
    type: "string",
    description: "IP addresses and CIDRs not to reach, separated by commas; 0.0.0.0/0: everything",
    valueHint: "list",
  },
} as const;

/** What the options say; undefined without any of them. The api checks the entries. */
export function networkOption(args: { "no-internet"?: boolean; "allow-out"?: string; "deny-out"?: string }) {
  const { "no-internet": noInternet, "allow-out": allowOut, "deny-out": denyOut } = args;
  if (!noInternet && allowOut === undefined && denyOut === undefined) return undefined;
  return { allowInternetAccess: !noInternet, allowOut: list(allowOut), denyOut: list(denyOut) };
}

function list(text = ""): string[] {
  return text.split(",").map((entry) => entry.trim()).filter((entry) => entry !== "");
}
