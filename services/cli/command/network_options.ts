/** The options of commands that set what a sandbox may reach. */
export const NETWORK_OPTIONS = {
  internet: {
    type: "boolean",
    description: "Reach the internet (default); --no-internet: nothing but what --allow-out names",
    default: true,
  },
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
export function networkOption(args: { internet: boolean; "allow-out"?: string; "deny-out"?: string }) {
  const { internet, "allow-out": allowOut, "deny-out": denyOut } = args;
  if (internet && allowOut === undefined && denyOut === undefined) return undefined;
  return { allowInternetAccess: internet, allowOut: list(allowOut), denyOut: list(denyOut) };
}

function list(text = ""): string[] {
  return text.split(",").map((entry) => entry.trim()).filter((entry) => entry !== "");
}
