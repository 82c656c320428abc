import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import type { Tunnel } from "@torpor/rpc";
import { Client } from "undici";
import { endToEnd, type RawHeaders } from "./headers.ts";
import { Refusal } from "./refusal.ts";
import { tunnelDuplex } from "./tunnel_duplex.ts";

const MAX_HEAD_BYTES = 65_536;

/**
 * Passes one request on through a tunnel of its own, and its answer back; both bodies flow at the pace of their readers.
 * @param headers of the request to the port.
 * @throws Refusal before an answer has begun; anything else after that, and the answer has then been cut.
 */
export async function exchangeHttp(
  tunnel: Tunnel,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  headers: RawHeaders,
  onBytes: () => void,
): Promise<void> {
  const socket = tunnelDuplex(tunnel, onBytes);
  socket.on("error", () => {}); // The request has it.
  // The client waits for ever for a connection that is there at once.
  const connect =
    ((_options: unknown, done: (error: null, socket: unknown) => void) =>
      queueMicrotask(() => done(null, socket))) as never;
  const client = new Client("http://guest", {
    connect,
    pipelining: 0,
    headersTimeout: 0,
    bodyTimeout: 0,
    maxHeaderSize: MAX_HEAD_BYTES,
  });
  const onClose = () => void client.destroy().catch(() => {});
  outgoing.on("close", onClose);
  try {
    const answer = await begin(client, incoming, headers);
    outgoing.writeHead(answer.statusCode, endToEnd(answer.headers as unknown as RawHeaders));
    outgoing.flushHeaders();
    await pipeline(answer.body, outgoing);
  } catch (thrown) {
    if (outgoing.headersSent) outgoing.destroy();
    throw thrown;
  } finally {
    outgoing.off("close", onClose);
    await client.destroy();
    tunnel.close();
  }
}

async function begin(client: Client, incoming: IncomingMessage, headers: RawHeaders) {
  const { "content-length": length, "transfer-encoding": coding } = incoming.headers;
  try {
    return await client.request({
      path: incoming.url!,
      method: incoming.method as "GET",
      headers,
      body: coding !== undefined || Number(length ?? 0) > 0 ? incoming : null,
      responseHeaders: "raw",
      reset: true,
    });
  } catch (cause) {
    throw new Refusal(502, "The sandbox's answer is not HTTP, or it hung up before it", undefined, { cause });
  }
}
