import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Tunnel } from "@torpor/rpc";
import { endToEnd, pairsOf, type RawHeaders } from "./headers.ts";
import { Refusal } from "./refusal.ts";

const MAX_HEAD_BYTES = 65_536;
const ANSWER_TIMEOUT_MS = 60_000;
/** What is left of a refused upgrade's answer. */
const REFUSED_BODY_MS = 10_000;

/** A head as it came, and the first bytes behind it. */
interface Answer {
  status: number;
  reason: string;
  headers: RawHeaders;
  rest: Uint8Array;
}

/**
 * Passes a request to change the protocol on (WebSocket or another). Once the port agrees, both connections are one, of
 * bytes that nobody here looks at. When it does not agree, the client gets its answer and the connection ends: whatever the
 * client sends behind it would otherwise be another request, past everything that is decided here.
 */
export async function exchangeUpgrade(
  tunnel: Tunnel,
  incoming: IncomingMessage,
  socket: Socket,
  head: Uint8Array,
  headers: RawHeaders,
  onBytes: () => void,
): Promise<void> {
  const { method, url, headers: given } = incoming;
  const lines = [...pairsOf(headers), ["connection", "Upgrade"], ["upgrade", given.upgrade ?? ""]]
    .map(([name, value]) => `${name}: ${value}\r\n`).join("");
  await tunnel.write(latin1(`${method} ${url} HTTP/1.1\r\n${lines}\r\n`));
  const timer = setTimeout(() => tunnel.close(), ANSWER_TIMEOUT_MS);
  const answer = await readAnswer(tunnel);
  clearTimeout(timer);
  if (answer.status !== 101) return await passRefusal(tunnel, socket, answer);
  const kept = [...pairsOf(answer.headers)].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.write(latin1(`HTTP/1.1 101 ${answer.reason || "Switching Protocols"}\r\n${kept}\r\n`));
  if (answer.rest.length > 0) socket.write(answer.rest);
  if (head.length > 0) await tunnel.write(head.slice());
  await splice(tunnel, socket, onBytes);
}

/** Joins the two until both directions have ended or one side has broken off. */
async function splice(tunnel: Tunnel, socket: Socket, onBytes: () => void): Promise<void> {
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.on("data", (chunk: Uint8Array) => {
    onBytes();
    socket.pause();
    tunnel.write(chunk.slice()).then(() => socket.resume(), () => socket.destroy());
  });
  socket.on("end", () => void tunnel.end().catch(() => {}));
  socket.on("close", () => tunnel.close());
  socket.resume();
  try {
    for (let data = await tunnel.read(); data; data = await tunnel.read()) {
      onBytes();
      if (!socket.write(data)) await drained(socket);
    }
    socket.end();
  } catch (_error) {
    // The port, or the sandbox under it, is gone: no clean end.
    socket.resetAndDestroy();
  }
  await closed;
}

async function passRefusal(tunnel: Tunnel, socket: Socket, answer: Answer): Promise<void> {
  // "transfer-encoding" stays: the body is passed on as it is.
  const coding = [...pairsOf(answer.headers)].filter(([name]) => name.toLowerCase() === "transfer-encoding");
  const headers = [...pairsOf(endToEnd(answer.headers)), ...coding, ["connection", "close"]];
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.write(latin1(`HTTP/1.1 ${answer.status} ${answer.reason}\r\n${lines}\r\n`));
  socket.write(answer.rest);
  const timer = setTimeout(() => tunnel.close(), REFUSED_BODY_MS);
  socket.on("close", () => tunnel.close());
  socket.resume();
  try {
    for (let data = await tunnel.read(); data && !socket.destroyed; data = await tunnel.read()) {
      if (!socket.write(data)) await drained(socket);
    }
  } catch (_error) {
    // Its time is over, or the client has what it wanted.
  }
  clearTimeout(timer);
  socket.end();
}

async function readAnswer(tunnel: Tunnel): Promise<Answer> {
  let text = "";
  for (;;) {
    const data = await tunnel.read().catch((cause) => {
      throw new Refusal(502, "The sandbox hung up before its answer", undefined, { cause });
    });
    if (!data) throw new Refusal(502, "The sandbox hung up before its answer");
    // One byte is one character, so positions in the text are positions in the bytes.
    text += new TextDecoder("latin1").decode(data);
    const end = text.indexOf("\r\n\r\n");
    if (end > MAX_HEAD_BYTES || (end < 0 && text.length > MAX_HEAD_BYTES)) throw notHttp();
    if (end >= 0) {
      return { ...parseHead(text.slice(0, end)), rest: data.subarray(data.length - (text.length - end - 4)) };
    }
  }
}

const STATUS_LINE = /^HTTP\/1\.1 ([1-5][0-9]{2})(?: ([\t\x20-\x7e]*))?$/;
const HEADER_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

function parseHead(text: string): Omit<Answer, "rest"> {
  const [first, ...lines] = text.split("\r\n");
  const [, status, reason = ""] = STATUS_LINE.exec(first!) ?? [];
  const headers = lines.map((line) => HEADER_LINE.exec(line)?.slice(1));
  if (status === undefined || headers.some((header) => !header)) throw notHttp();
  return { status: Number(status), reason, headers: headers.flat() as RawHeaders };
}

function notHttp(): Refusal {
  return new Refusal(502, "The sandbox's answer is not HTTP");
}

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0) & 255);
}

function drained(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => {
    socket.off("drain", done).off("close", done);
    resolve();
  };
  socket.on("drain", done).on("close", done);
  return promise;
}
