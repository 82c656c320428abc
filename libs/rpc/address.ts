import { TorporError } from "@torpor/errors";
import { isPeer } from "./tls/peer.ts";

/** Where a service listens or is reached: `unix:/path`, `http://host:port`, or `https://host:port#peer`. */
export type Address =
  | { transport: "unix"; path: string }
  | { transport: "tcp"; hostname: string; port: number }
  | {
    /** Mutual TLS. */
    transport: "tls";
    hostname: string;
    port: number;
    /** Who must answer there (see {@linkcode isPeer}); "" in an address to listen on. */
    peer: string;
  };

/**
 * Parses `unix:/absolute/path`, `http://host:port` or `https://host:port#peer` (port 0: any free one, for listening).
 * @throws TorporError `config_invalid`.
 */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix:/")) return { transport: "unix", path: text.slice("unix:".length) };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && url.pathname === "/" && !url.search && !url.username && !url.password) {
    const { hostname } = url;
    if (url.protocol === "http:" && !url.hash) {
      return { transport: "tcp", hostname, port: url.port === "" ? 80 : Number(url.port) };
    }
    const peer = url.hash.slice(1);
    if (url.protocol === "https:" && (peer === "" || isPeer(peer))) {
      return { transport: "tls", hostname, port: url.port === "" ? 443 : Number(url.port), peer };
    }
  }
  throw new TorporError("config_invalid", `not an address: "${text}"`, {
    hint: "use unix:/absolute/path, http://host:port or https://host:port#peer",
  });
}

/** The text that {@linkcode parseAddress} reads. */
export function formatAddress(address: Address): string {
  if (address.transport === "unix") return `unix:${address.path}`;
  const at = `${address.hostname}:${address.port}`;
  if (address.transport === "tcp") return `http://${at}`;
  return `https://${at}${address.peer === "" ? "" : `#${address.peer}`}`;
}
