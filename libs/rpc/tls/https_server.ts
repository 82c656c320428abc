import { createServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { once } from "node:events";
import { log } from "@torpor/telemetry";
import type { Address } from "../address.ts";
import { answerExchange, type Exchange, headersOf, sendStreamed } from "../node_exchange.ts";
import type { Credentials, KeyPair } from "./credentials.ts";
import { pacedBody } from "./paced_body.ts";
import { type TlsCaller, tlsCaller } from "./tls_caller.ts";

/** Longer than a client keeps a connection that it does not use. */
const KEEP_ALIVE_MS = 120_000;

/** Answers requests; it never throws. */
export type HttpsHandler = (request: Request, caller: TlsCaller) => Promise<Response>;

/** An HTTPS listener. */
export interface HttpsServer {
  port: number;
  /** Ends it after the requests in flight. */
  shutdown(): Promise<void>;
}

/**
 * Serves HTTPS that asks its clients for a certificate and tells the handler what they have shown. Deno.serve cannot
 * ask, so this is node:https. A connection without a certificate, or with a wrong one, is not refused here: the first
 * certificate of a host is fetched through one.
 */
export async function serveHttps(
  address: Address & { transport: "tls" },
  credentials: Credentials,
  handler: HttpsHandler,
): Promise<HttpsServer> {
  /** The TCP connections beneath the TLS ones, by the other end. */
  const connections = new Map<string, Socket>();
  const underWay = new Set<Promise<void>>();
  const server = createServer({
    ...contextOf(credentials.current),
    requestCert: true,
    rejectUnauthorized: false,
    keepAliveTimeout: KEEP_ALIVE_MS,
    // An upload may take longer than any fixed time.
    requestTimeout: 0,
  }, (incoming, outgoing) => {
    const exchange = { incoming, outgoing, beneath: connections.get(endOf(incoming.socket)) };
    const answering = answer(exchange, tlsCaller(incoming.socket as TLSSocket, credentials.current.authority), handler)
      .finally(() => underWay.delete(answering));
    underWay.add(answering);
  });
  server.on("connection", (socket: Socket) => {
    const end = endOf(socket);
    connections.set(end, socket);
    socket.on("close", () => connections.delete(end));
  });
  server.on("tlsClientError", (error) => log("warn", "tls_handshake_failed", {}, error));
  const replaced = credentials.onReplace((next) => server.setSecureContext(contextOf(next)));
  server.listen(address.port, address.hostname.replace(/^\[|\]$/g, ""));
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    shutdown: async () => {
      replaced[Symbol.dispose]();
      const closed = once(server, "close");
      server.close();
      while (underWay.size > 0) await Promise.all(underWay);
      // Connections that their clients keep. closeIdleConnections misses some of them.
      for (const socket of connections.values()) socket.destroy();
      server.closeAllConnections();
      await closed;
    },
  };
}

function contextOf({ certificate, key, authority }: KeyPair) {
  return { cert: certificate, key, ca: authority, minVersion: "TLSv1.3" } as const;
}

function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

/** A request, its answer, and the connection below TLS. */
interface SecureExchange extends Exchange {
  beneath: Socket | undefined;
}

function answer(exchange: SecureExchange, caller: TlsCaller, handler: HttpsHandler): Promise<void> {
  return answerExchange(exchange, async (signal) => {
    const request = requestOf(exchange, signal);
    await sendStreamed(await handler(request, caller), exchange.outgoing, signal);
    // What is left of a body that nobody wants; cancelling a body that was read does nothing.
    if (request.body?.locked === false) await request.body.cancel();
  });
}

function requestOf({ incoming, beneath }: SecureExchange, signal: AbortSignal): Request {
  const method = incoming.method ?? "GET";
  const body = method === "GET" || method === "HEAD" ? undefined : pacedBody(incoming, beneath, (thrown) => thrown);
  // The host header is the client's to choose; nothing here depends on it.
  return new Request(`https://peer${incoming.url}`, { method, headers: headersOf(incoming), body, signal });
}
