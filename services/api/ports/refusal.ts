import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { STATUS_CODES } from "node:http";
import { asTorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import type { PortTarget } from "./target.ts";

/** A request to a port that is not answered by who listens there. */
export class Refusal extends Error {
  override readonly name = "Refusal";

  /** @param status of HTTP; also the body's `code`. @param retryAfterSec when it may succeed. */
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfterSec?: number,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Whatever was thrown on the way to a port as what the client is told. */
export function refusalOf(thrown: unknown): Refusal {
  if (thrown instanceof Refusal) return thrown;
  const error = asTorporError(thrown);
  const options = { cause: thrown };
  switch (error.code) {
    case "port_closed":
      return new Refusal(502, "The sandbox is running but port is not open", undefined, options);
    case "rate_limited":
      return new Refusal(429, "too many connections to this sandbox", 1, options);
    case "no_capacity":
    case "no_space":
    case "quota_exceeded":
      return new Refusal(503, `the sandbox cannot be resumed now: ${error.message}`, error.retryAfterSec ?? 5, options);
    case "deadline_exceeded":
      return new Refusal(504, "the sandbox did not answer in time", undefined, options);
    case "unauthenticated":
    case "permission_denied":
    case "internal":
      log("error", "port_request_failed", {}, thrown);
      return new Refusal(502, "The sandbox could not be reached", undefined, options);
    default:
      return new Refusal(502, "The sandbox could not be reached", undefined, options);
  }
}

/** `{sandboxId, message, port, code}`, as E2B's clients read it; a page for browsers. */
export function refusalBody(
  refusal: Refusal,
  target: PortTarget | undefined,
  accept: string,
): { type: string; text: string } {
  if (/\btext\/html\b/i.test(accept)) return { type: "text/html; charset=utf-8", text: page(refusal, target) };
  const { status: code, message } = refusal;
  const body = { sandboxId: target?.sandboxId, message, port: target?.port, code };
  return { type: "application/json", text: JSON.stringify(body) };
}

/** Sends a refusal. What the client still sends is not read: the connection ends. */
export function refuse(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  target: PortTarget | undefined,
  refusal: Refusal,
): void {
  if (outgoing.headersSent || outgoing.destroyed) return void outgoing.destroy();
  const { type, text } = refusalBody(refusal, target, incoming.headers.accept ?? "");
  outgoing.writeHead(refusal.status, headersOf(refusal, type, text).flat());
  outgoing.end(incoming.method === "HEAD" ? undefined : text);
}

/** The same on a connection that was to be upgraded. */
export function refuseUpgrade(
  incoming: IncomingMessage,
  socket: Socket,
  target: PortTarget | undefined,
  refusal: Refusal,
): void {
  const { type, text } = refusalBody(refusal, target, incoming.headers.accept ?? "");
  const lines = headersOf(refusal, type, text).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.end(`HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? ""}\r\n${lines}\r\n${text}`);
}

function headersOf(refusal: Refusal, type: string, text: string): [string, string][] {
  const headers: [string, string][] = [
    ["content-type", type],
    ["content-length", String(new TextEncoder().encode(text).length)],
    ["cache-control", "no-store"],
    ["connection", "close"],
  ];
  if (refusal.retryAfterSec !== undefined) headers.push(["retry-after", String(Math.ceil(refusal.retryAfterSec))]);
  return headers;
}

function page({ status, message }: Refusal, target: PortTarget | undefined): string {
  const where = target ? `<p>Sandbox <code>${target.sandboxId}</code>, port ${target.port}</p>` : "";
  const shown = message.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${status}</title><h1>${shown}</h1>${where}</html>\n`;
}
