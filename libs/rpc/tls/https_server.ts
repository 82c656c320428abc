import { createServer } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { once } from "node:events";
import { continueTrace, log, withSpan } from "@torpor/telemetry";
import type { Address } from "../address.ts";
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

/** A request and its answer. */
interface Exchange {
  incoming: IncomingMessage;
  outgoing: ServerResponse;
  beneath: Socket | undefined;
}

async function answer(exchange: Exchange, caller: TlsCaller, handler: HttpsHandler): Promise<void> {
  const { incoming, outgoing } = exchange;
  const gone = new AbortController();
  outgoing.on("close", () => outgoing.writableFinished || gone.abort());
  // Errors of a connection are its end, which the line above and the reader of the body see.
  incoming.on("error", () => {});
  outgoing.on("error", () => {});
  const traceparent = incoming.headers.traceparent;
  try {
    await continueTrace(
      typeof traceparent === "string" ? traceparent : "",
      () =>
        withSpan(incoming.method ?? "", {}, async () => {
          const request = requestOf(exchange, gone.signal);
          await send(await handler(request, caller), outgoing, gone.signal);
          // What is left of a body that nobody wants; cancelling a body that was read does nothing.
          if (request.body?.locked === false) await request.body.cancel();
        }),
    );
  } catch (thrown) {
    if (!gone.signal.aborted) log("warn", "answer_broke_off", {}, thrown);
    outgoing.destroy();
  }
}

function requestOf({ incoming, beneath }: Exchange, signal: AbortSignal): Request {
  const headers = new Headers();
  for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
    headers.append(incoming.rawHeaders[i]!, incoming.rawHeaders[i + 1]!);
  }
  const method = incoming.method ?? "GET";
  const body = method === "GET" || method === "HEAD" ? undefined : pacedBody(incoming, beneath, (thrown) => thrown);
  // The host header is the client's to choose; nothing here depends on it.
  return new Request(`https://peer${incoming.url}`, { method, headers, body, signal });
}

async function send(response: Response, outgoing: ServerResponse, signal: AbortSignal): Promise<void> {
  outgoing.writeHead(response.status, [...response.headers].flat());
  // Deno 2.9.6 ends an empty body whose head was sent before with bytes that the next answer's reader stumbles over. Test:
  // "an empty answer leaves the connection in order".
  if (response.body && response.headers.get("content-length") !== "0") outgoing.flushHeaders();
  const reader = response.body?.getReader();
  const onGone = () => void reader?.cancel(signal.reason).catch(() => {});
  if (signal.aborted) onGone();
  signal.addEventListener("abort", onGone, { once: true });
  for (let next = await reader?.read(); next && !next.done; next = await reader!.read()) {
    if (!outgoing.write(next.value)) await drained(outgoing);
  }
  outgoing.end();
}

function drained(outgoing: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => {
    outgoing.off("drain", done).off("close", done);
    resolve();
  };
  outgoing.on("drain", done).on("close", done);
  return promise;
}
