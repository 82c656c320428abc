import type { IncomingMessage } from "node:http";
import { isId } from "@torpor/ids";

/** A port of a sandbox that a request is for. */
export interface PortTarget {
  sandboxId: string;
  port: number;
}

const ID_HEADERS = ["torpor-sandbox-id", "e2b-sandbox-id"];
const PORT_HEADERS = ["torpor-sandbox-port", "e2b-sandbox-port"];

/** Headers that say where a request goes; who answers it has no use for them. */
export const ROUTING_HEADERS: readonly string[] = [...ID_HEADERS, ...PORT_HEADERS];

/**
 * The port that a request is for, by its Host (`<port>-<id>.<domain>`), else by two headers (`torpor-sandbox-id` and
 * `torpor-sandbox-port`, or those of E2B's clients).
 * @param domain as configured: without a port.
 * @returns undefined for a request to the API; a text that says what is wrong with one that means a port.
 */
export function portTarget({ headers, rawHeaders }: IncomingMessage, domain: string): PortTarget | string | undefined {
  const label = labelBelow(headers.host ?? "", domain);
  const id = single(headers, ID_HEADERS);
  const port = single(headers, PORT_HEADERS);
  if (label === undefined && id === undefined && port === undefined) return undefined;
  if (rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === "host").length !== 1) {
    return "a request has one Host";
  }
  if (label !== undefined) return targetOf(...split(label)) ?? "the Host must be <port>-<sandbox id>.<domain>";
  if (id === undefined || port === undefined) {
    return "sandbox id and port go together: one of the two headers is missing";
  }
  return targetOf(port, id) ?? "not a sandbox id and a port";
}

/** What stands before the domain; undefined when the host is not below it. */
function labelBelow(host: string, domain: string): string | undefined {
  const name = host.toLowerCase().replace(/:[0-9]*$/, "").replace(/\.$/, "");
  return name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : undefined;
}

function split(label: string): [port: string, id: string] {
  const at = label.indexOf("-");
  return [label.slice(0, Math.max(at, 0)), label.slice(at + 1)];
}

function single(headers: IncomingMessage["headers"], names: string[]): string | undefined {
  const value = names.map((name) => headers[name]).find((value) => value !== undefined);
  return Array.isArray(value) ? value.join() : value;
}

function targetOf(port: string, sandboxId: string): PortTarget | undefined {
  const number = /^[1-9][0-9]{0,4}$/.test(port) ? Number(port) : 0;
  return number >= 1 && number <= 65_535 && isId(sandboxId) ? { sandboxId, port: number } : undefined;
}
