/**
 * The head of an HTTP/1 request, read strictly: what two readers could take for different requests (two Host headers, two lengths,
 * folded lines …) is refused, as the server behind a name could be the second reader.
 * @module
 */
import { domainName } from "./domain_rules.ts";
import { Refusal } from "./refusal.ts";

const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
const HEADER_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;
const MAX_HEADERS = 128;
/** Between two hops only (RFC 9110, 7.6.1); `upgrade` is written anew. */
const HOP_BY_HOP: readonly string[] = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "upgrade",
  "http2-settings",
];
/** What a request's meaning rests on: no Connection header may name it. */
const NEVER_DROPPED: readonly string[] = ["host", "content-length", "transfer-encoding"];

/** How long a request's body is. */
export type BodyFraming = { kind: "length"; bytes: number } | { kind: "chunked" };

export interface RequestHead {
  /** In the form of `domainName`. */
  host: string;
  /** What is sent on: the same request, the last one of its connection. */
  forwarded: Uint8Array<ArrayBuffer>;
  body: BodyFraming;
  /** It asks for a WebSocket. */
  upgrade: boolean;
}

type Header = readonly [name: string, value: string, line: string];

/** Where the head ends (after its empty line), or -1. @param from where to look first. */
export function endOfHead(bytes: Uint8Array, from = 0): number {
  for (let index = bytes.indexOf(0x0a, from); index !== -1; index = bytes.indexOf(0x0a, index + 1)) {
    if (index >= 3 && bytes[index - 1] === 0x0d && bytes[index - 2] === 0x0a && bytes[index - 3] === 0x0d) {
      return index + 1;
    }
  }
  return -1;
}

/**
 * Reads a request's head.
 * @param bytes all of it, with the empty line at its end.
 * @throws Refusal `malformed`, `no_name` or `bad_name`.
 */
export function readRequestHead(bytes: Uint8Array): RequestHead {
  const [requestLine, ...lines] = latin1(bytes.subarray(0, -4)).split("\r\n");
  const [, method, target, minor] = REQUEST_LINE.exec(requestLine!) ?? refuse("request line");
  // Also refuses the absolute form, whose name some servers prefer to the Host header's, and CONNECT.
  if (!target!.startsWith("/") && !(target === "*" && method === "OPTIONS")) refuse("request target");
  if (lines.length > MAX_HEADERS) refuse("number of headers");
  const headers = lines.map(readHeader);
  const body = bodyFraming(headers, minor === "1");
  const connection = connectionOptions(headers);
  const upgrade = connection.includes("upgrade") && method === "GET" && isEmpty(body) &&
    only(headers, "upgrade")?.toLowerCase() === "websocket";
  const kept = headers.filter(([name]) => !HOP_BY_HOP.includes(name) && !connection.includes(name)).map(([, , line]) =>
    line
  );
  const ending = upgrade ? ["Connection: Upgrade", "Upgrade: websocket"] : ["Connection: close"];
  const forwarded = Uint8Array.from(
    [requestLine!, ...kept, ...ending, "", ""].join("\r\n"),
    (char) => char.charCodeAt(0),
  );
  return { host: hostName(headers), forwarded, body, upgrade };
}

function isEmpty(body: BodyFraming): boolean {
  return body.kind === "length" && body.bytes === 0;
}

function readHeader(line: string): Header {
  const [, name, value] = HEADER_LINE.exec(line) ?? refuse("header line");
  return [name!.toLowerCase(), value!.trimEnd(), line];
}

function hostName(headers: readonly Header[]): string {
  const host = only(headers, "host");
  if (!host) throw new Refusal("no_name");
  const name = domainName(host.replace(/:80$/, ""));
  if (name === undefined) throw new Refusal("bad_name");
  return name;
}

function bodyFraming(headers: readonly Header[], mayChunk: boolean): BodyFraming {
  const length = only(headers, "content-length");
  const encoding = only(headers, "transfer-encoding");
  if (encoding !== undefined) {
    if (encoding.toLowerCase() !== "chunked" || length !== undefined || !mayChunk) refuse("transfer encoding");
    return { kind: "chunked" };
  }
  if (length !== undefined && !/^\d{1,15}$/.test(length)) refuse("content length");
  return { kind: "length", bytes: Number(length ?? 0) };
}

function connectionOptions(headers: readonly Header[]): string[] {
  const options = headers.filter(([name]) => name === "connection")
    .flatMap(([, value]) => value.split(",")).map((option) => option.trim().toLowerCase());
  if (options.some((option) => NEVER_DROPPED.includes(option))) refuse("connection header");
  return options;
}

/** The value of a header that must not be there twice. */
function only(headers: readonly Header[], wanted: string): string | undefined {
  const found = headers.filter(([name]) => name === wanted);
  if (found.length > 1) refuse(`${wanted} twice`);
  return found[0]?.[1];
}

function refuse(detail: string): never {
  throw new Refusal("malformed", detail);
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
