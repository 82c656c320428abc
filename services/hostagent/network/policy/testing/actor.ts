/**
 * A program that tests run inside a network namespace: it does with sockets what the lines of its stdin say, and answers each
 * with a line.
 */
import type { Buffer } from "node:buffer";
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";

/** What an actor can be told. */
export type Order =
  /** Accept connections; greet with the peer's address, then send back what comes. */
  | { do: "serve_tcp"; host: string; port: number; as: string }
  /** Answer datagrams with the peer's address and what they say. */
  | { do: "serve_udp"; host: string; port: number; as: string }
  /** "connected <greeting>", or an error code, as "ECONNREFUSED". */
  | { do: "connect"; host: string; port: number; as: string }
  /** Sends a line over a connection: what comes back, or an error code, or "closed". */
  | { do: "say"; as: string; text: string }
  /** Sends a datagram from a socket that stays: what comes back. Deno does not tell of errors that ICMP brings. */
  | { do: "send"; host: string; port: number; as: string; text: string }
  | { do: "close"; as: string };

const connections = new Map<string, { socket: Socket; next: () => Promise<string> }>();
const udpSockets = new Map<string, Deno.DatagramConn>();

async function carryOut(order: Order): Promise<string> {
  switch (order.do) {
    case "serve_tcp":
      return await serveTcp(order);
    case "serve_udp":
      return await serveUdp(order);
    case "connect":
      return await open(order);
    case "say": {
      const { socket, next } = connections.get(order.as)!;
      if (!socket.destroyed) socket.write(`${order.text}\n`);
      return await next();
    }
    case "send":
      return await send(order);
    case "close":
      connections.get(order.as)?.socket.destroy();
      udpSockets.get(order.as)?.close();
      return "closed";
  }
}

function serveTcp({ host, port, as }: { host: string; port: number; as: string }): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.write(`${as} sees ${socket.remoteAddress}\n`);
    socket.on("data", (data) => socket.write(data));
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve("serving"));
  });
}

async function serveUdp({ host, port, as }: { host: string; port: number; as: string }): Promise<string> {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: host, port });
  void (async () => {
    for await (const [data, peer] of socket) {
      const { hostname } = peer as Deno.NetAddr;
      await socket.send(encode(`${as} sees ${hostname}: ${decode(data)}`), peer);
    }
  })();
  return "serving";
}

async function open(order: { host: string; port: number; as: string }): Promise<string> {
  const socket = connect({ host: order.host, port: order.port });
  const next = lines(socket);
  connections.set(order.as, { socket, next });
  return await next();
}

/** The lines of a connection, one after another; its end and its error count as one. */
function lines(socket: Socket): () => Promise<string> {
  const came: string[] = [];
  let waiting: ((line: string) => void) | undefined;
  let rest = "";
  const give = (line: string) => {
    if (waiting) waiting(line);
    else came.push(line);
    waiting = undefined;
  };
  socket.on("data", (data: Buffer) => {
    const parts = (rest + data.toString()).split("\n");
    rest = parts.pop()!;
    for (const part of parts) give(part);
  });
  socket.on("error", (error: NodeJS.ErrnoException) => give(error.code ?? error.message));
  socket.on("end", () => give("closed"));
  return () => came.length > 0 ? Promise.resolve(came.shift()!) : new Promise((resolve) => waiting = resolve);
}

async function send(order: { host: string; port: number; as: string; text: string }): Promise<string> {
  const { host, port } = order;
  const from = host.includes(":") ? "::" : "0.0.0.0";
  let socket = udpSockets.get(order.as);
  if (!socket) udpSockets.set(order.as, socket = Deno.listenDatagram({ transport: "udp", hostname: from, port: 0 }));
  await socket.send(encode(order.text), { transport: "udp", hostname: host, port });
  return decode((await socket.receive())[0]);
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function decode(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

if (import.meta.main) {
  createInterface({ input: process.stdin }).on("line", async (line) => {
    const { id, ...order } = JSON.parse(line) as Order & { id: number };
    const answer = await carryOut(order as Order).catch((error) => `failed: ${error}`);
    console.log(JSON.stringify({ id, answer }));
  }).on("close", () => process.exit(0));
}
