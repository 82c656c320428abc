import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { Readable } from "node:stream";
import type { Address } from "./address.ts";
import { answerExchange, headersOf, sendStreamed } from "./node_exchange.ts";

/**
 * Requests that somebody else answers, before any route is looked at, with the connection itself: what is upgraded to
 * another protocol (WebSocket) is then bytes that no server understands. Deno.serve has no such thing.
 */
export interface Diversion {
  /** True for a request that is to be answered here. It must decide by the head alone, and not throw. */
  takes(incoming: IncomingMessage): boolean;
  /** Answers a request that it takes. */
  request(incoming: IncomingMessage, outgoing: ServerResponse): void;
  /** Answers a request to change the protocol. @param head what came behind the request already. */
  upgrade(incoming: IncomingMessage, socket: Socket, head: Uint8Array): void;
}

/** Longer than proxies in front keep a connection that they do not use. */
const KEEP_ALIVE_MS = 120_000;
/** Bodies up to this size are read before the handler runs: a stream for each costs more than all of them together. */
const SMALL_BODY_BYTES = 65_536;

const DROP_MS = 2_000;

type Handler = (request: Request, address: string) => Promise<Response>;

/** Serves HTTP/1.1 through node:http, which can give connections away. It costs 0.1 ms of CPU a request more than Deno.serve. */
export async function serveWithDiversion(
  address: Address & { transport: "tcp" | "unix" },
  handler: Handler,
  diversion: Diversion,
): Promise<{ port: number; shutdown(): Promise<void> }> {
  const underWay = new Set<Promise<void>>();
  const server = createServer(
    {
      keepAliveTimeout: KEEP_ALIVE_MS,
      // An upload may take longer than any fixed time; a head may not (headersTimeout, 60 s).
      requestTimeout: 0,
      // Others, such as h2c, are only an offer, which is not taken up.
      shouldUpgradeCallback: (incoming: IncomingMessage) => diversion.takes(incoming),
    } as Parameters<typeof createServer>[0],
    (incoming, outgoing) => {
      if (diversion.takes(incoming)) return diversion.request(incoming, outgoing);
      const answering = answer(incoming, outgoing, handler).finally(() => underWay.delete(answering));
      underWay.add(answering);
    },
  );
  server.on("upgrade", (incoming, socket, head) => diversion.upgrade(incoming, socket as Socket, head));
  server.on("clientError", (_error, socket) => {
    // What is no HTTP gets no more than this, and the connection is over: nothing behind it can be trusted.
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  });
  if (address.transport === "tcp") server.listen(address.port, address.hostname.replace(/^\[|\]$/g, ""));
  else server.listen(address.path);
  await once(server, "listening");
  return {
    port: address.transport === "tcp" ? (server.address() as AddressInfo).port : 0,
    shutdown: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeIdleConnections();
      while (underWay.size > 0) await Promise.all(underWay);
      server.closeAllConnections();
      await closed;
    },
  };
}

function answer(incoming: IncomingMessage, outgoing: ServerResponse, handler: Handler): Promise<void> {
  return answerExchange({ incoming, outgoing }, async (signal) => {
    const request = await requestOf(incoming, signal);
    await send(await handler(request, incoming.socket.remoteAddress ?? ""), outgoing, signal);
    if (!incoming.complete) dropRest(incoming);
  });
}

/** What is left of a body that nobody wants is read, so that its sender gets to the answer; for a moment only. */
function dropRest(incoming: IncomingMessage): void {
  if (incoming.destroyed || incoming.socket.destroyed) return;
  // Whoever has begun to read it pauses it when nobody takes what is read.
  incoming.removeAllListeners("data");
  incoming.resume();
  const timer = setTimeout(() => incoming.socket.destroy(), DROP_MS);
  incoming.on("end", () => clearTimeout(timer));
  incoming.socket.on("close", () => clearTimeout(timer));
}

async function requestOf(incoming: IncomingMessage, signal: AbortSignal): Promise<Request> {
  const method = incoming.method ?? "GET";
  const url = `http://${hostOf(incoming)}${pathOf(incoming)}`;
  return new Request(url, { method, headers: headersOf(incoming), body: await bodyOf(incoming, method), signal });
}

/** The path may look like another host's ("//host"): it goes behind one. Clients of a proxy name the host here, too. */
function pathOf({ url = "/" }: IncomingMessage): string {
  if (url.startsWith("/")) return url;
  if (!/^https?:/i.test(url) || !URL.canParse(url)) return "/";
  const { pathname, search } = new URL(url);
  return `${pathname}${search}`;
}

function hostOf({ headers }: IncomingMessage): string {
  const host = headers.host ?? "";
  return /^[a-z0-9.\-_\[\]:]+$/i.test(host) && URL.canParse(`http://${host}/`) ? host : "localhost";
}

async function bodyOf(
  incoming: IncomingMessage,
  method: string,
): Promise<Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>> | undefined> {
  const length = incoming.headers["content-length"];
  if (method === "GET" || method === "HEAD") return undefined;
  if (length === undefined && incoming.headers["transfer-encoding"] === undefined) return undefined;
  if (length === undefined || Number(length) > SMALL_BODY_BYTES) {
    return Readable.toWeb(incoming) as unknown as ReadableStream<Uint8Array<ArrayBuffer>>;
  }
  const body = new Uint8Array(Number(length));
  let at = 0;
  for await (const chunk of incoming) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

/** Answers of one piece, sent with their length. */
const WHOLE = /^application\/(json|proto)\b/;

async function send(response: Response, outgoing: ServerResponse, signal: AbortSignal): Promise<void> {
  const isWhole = response.body && WHOLE.test(response.headers.get("content-type") ?? "");
  if (!isWhole) return await sendStreamed(response, outgoing, signal);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const headers = [...response.headers];
  if (!response.headers.has("content-length")) headers.push(["content-length", String(bytes.length)]);
  outgoing.writeHead(response.status, headers.flat());
  outgoing.end(bytes);
}
