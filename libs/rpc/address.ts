import { TorporError } from "@torpor/errors";

/** Where a service listens or is reached: `unix:/path`, or `http://host:port`. */
export type Address = { transport: "unix"; path: string } | { transport: "tcp"; hostname: string; port: number };

/**
 * Parses `unix:/absolute/path` or `http://host:port` (port 0: any free one, for listening).
 * @throws TorporError `config_invalid`.
 */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix:/")) return { transport: "unix", path: text.slice("unix:".length) };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" && url.pathname === "/" && !url.search) {
    return { transport: "tcp", hostname: url.hostname, port: url.port === "" ? 80 : Number(url.port) };
  }
  throw new TorporError("config_invalid", `not an address: "${text}"`, {
    hint: "use unix:/absolute/path or http://host:port",
  });
}

/** The text that {@linkcode parseAddress} reads. */
export function formatAddress(address: Address): string {
  return address.transport === "unix" ? `unix:${address.path}` : `http://${address.hostname}:${address.port}`;
}
