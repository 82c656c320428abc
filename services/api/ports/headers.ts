import type { IncomingMessage } from "node:http";
import { ROUTING_HEADERS } from "./target.ts";

/** Where a client shows a private sandbox's token. */
export const TOKEN_HEADERS = ["torpor-traffic-access-token", "e2b-traffic-access-token"] as const;

/** What concerns one connection only (RFC 9110, 7.6.1), besides what Connection names. */
const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

const FORWARDED = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"];

/** Names and values in turn, as node:http has them. */
export type RawHeaders = string[];

/** Pairs of raw headers. */
export function* pairsOf(raw: RawHeaders): Generator<[name: string, value: string]> {
  for (let i = 0; i + 1 < raw.length; i += 2) yield [raw[i]!, raw[i + 1]!];
}

/** What goes on to the other side of a message's headers: all that is not about the connection. */
export function endToEnd(raw: RawHeaders, without: readonly string[] = []): RawHeaders {
  const named = [...pairsOf(raw)].filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.toLowerCase().split(",").map((name) => name.trim()));
  const dropped = new Set([...HOP_BY_HOP, ...named, ...without]);
  // What frames or routes the message is never dropped because a client names it.
  for (const name of ["host", "content-length"]) dropped.delete(name);
  return [...pairsOf(raw)].filter(([name]) => !dropped.has(name.toLowerCase())).flat();
}

/**
 * The headers of a request as the sandbox gets them.
 * @param trusted a proxy in front says whom it forwards for; otherwise the connection's own end is what is told.
 */
export function headersForPort(incoming: IncomingMessage, trusted: boolean): RawHeaders {
  const { headers, rawHeaders, socket } = incoming;
  const address = socket.remoteAddress ?? "";
  const before = trusted ? headers["x-forwarded-for"] : undefined;
  const first = (name: string) => trusted ? [headers[name]].flat()[0] : undefined;
  return [
    ...endToEnd(rawHeaders, [...ROUTING_HEADERS, ...TOKEN_HEADERS, ...FORWARDED, "expect"]),
    ...["x-forwarded-for", [before, address].flat().filter(Boolean).join(", ")],
    ...["x-forwarded-host", first("x-forwarded-host") ?? headers.host ?? ""],
    ...["x-forwarded-proto", first("x-forwarded-proto") ?? "http"],
  ];
}
