/**
 * The server name of a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3). Written here, as the npm package for it
 * (read-tls-client-hello) reads one record only, takes the first of several names, and passes over malformed extensions: what
 * decides about access has to read what a strict server reads, or nothing.
 * @module
 */
import { domainName } from "./domain_rules.ts";
import { Refusal } from "./refusal.ts";

const HANDSHAKE_RECORD = 0x16;
const CLIENT_HELLO = 1;
const RECORD_HEADER_BYTES = 5;
const MAX_RECORD_BYTES = 16_384;
/** Clients cut a hello into a few records at most; so the work of reading is bounded. */
const MAX_RECORDS = 64;

const SERVER_NAME = 0;
const HOST_NAME = 0;
/** Encrypted ClientHello, and the older forms of it. A placeholder (GREASE) cannot be told from the real one. */
const ENCRYPTED_HELLO_EXTENSIONS: readonly number[] = [0xfe0d, 0xffce, 0xff02, 0xff03];

/** The server name, or how many bytes there must be before another look is worth it. */
export type HelloResult = { serverName: string } | { needBytes: number };

/**
 * Reads a ClientHello from what a client has sent so far.
 * @param bytes from the connection's first byte on.
 * @throws Refusal `malformed`, `no_name`, `bad_name` or `encrypted_hello`.
 */
export function readClientHello(bytes: Uint8Array): HelloResult {
  const assembled = assemble(bytes);
  return "needBytes" in assembled ? assembled : { serverName: serverName(new Reader(assembled.hello)) };
}

/** Puts the hello together from its records. */
function assemble(bytes: Uint8Array): { needBytes: number } | { hello: Uint8Array } {
  const fragments: Uint8Array[] = [];
  let position = 0;
  let collected = 0;
  while (fragments.length < MAX_RECORDS) {
    // Whether it is TLS is seen at once, not when five bytes are there: "SSH-" must not wait for its time limit.
    if (position < bytes.length && bytes[position] !== HANDSHAKE_RECORD) throw new Refusal("malformed", "not TLS");
    if (position + 1 < bytes.length && bytes[position + 1] !== 3) throw new Refusal("malformed", "record version");
    const body = position + RECORD_HEADER_BYTES;
    if (bytes.length < body) return { needBytes: body };
    const length = bytes[position + 3]! << 8 | bytes[position + 4]!;
    if (length === 0 || length > MAX_RECORD_BYTES) throw new Refusal("malformed", "record length");
    if (bytes.length < body + length) return { needBytes: body + length };
    fragments.push(bytes.subarray(body, body + length));
    collected += length;
    position = body + length;
    const hello = complete(fragments, collected);
    if (hello) return { hello };
  }
  throw new Refusal("malformed", "too many records");
}

function complete(fragments: Uint8Array[], collected: number): Uint8Array | undefined {
  if (collected < 4) return undefined;
  const message = concat(fragments, collected);
  if (message[0] !== CLIENT_HELLO) throw new Refusal("malformed", "not a ClientHello");
  const length = message[1]! << 16 | message[2]! << 8 | message[3]!;
  if (collected < 4 + length) return undefined;
  if (collected > 4 + length) throw new Refusal("malformed", "more than a ClientHello");
  return message.subarray(4);
}

function serverName(hello: Reader): string {
  hello.skip(2 + 32);
  if (hello.vector(1).left > 32) throw new Refusal("malformed", "session id");
  const ciphers = hello.vector(2).left;
  if (ciphers === 0 || ciphers % 2 !== 0) throw new Refusal("malformed", "cipher suites");
  if (hello.vector(1).left === 0) throw new Refusal("malformed", "compression methods");
  if (hello.left === 0) throw new Refusal("no_name");
  const extensions = hello.vector(2);
  hello.end();
  const seen = new Set<number>();
  let name: string | undefined;
  while (extensions.left > 0) {
    const type = extensions.number(2);
    const data = extensions.vector(2);
    if (seen.has(type)) throw new Refusal("malformed", "an extension twice");
    seen.add(type);
    if (type === SERVER_NAME) name = hostName(data);
  }
  if (ENCRYPTED_HELLO_EXTENSIONS.some((type) => seen.has(type))) throw new Refusal("encrypted_hello");
  if (name === undefined) throw new Refusal("no_name");
  return name;
}

function hostName(extension: Reader): string {
  const list = extension.vector(2);
  extension.end();
  if (list.left === 0) throw new Refusal("malformed", "empty list of names");
  if (list.number(1) !== HOST_NAME) throw new Refusal("malformed", "type of the name");
  const text = list.vector(2).text();
  if (list.left > 0) throw new Refusal("malformed", "more than one name");
  const name = domainName(text);
  if (name === undefined) throw new Refusal("bad_name");
  return name;
}

function concat(parts: Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(length);
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}

/** Reads the numbers and vectors of TLS; refuses what goes beyond the end. */
class Reader {
  #position = 0;

  constructor(readonly bytes: Uint8Array) {}

  get left(): number {
    return this.bytes.length - this.#position;
  }

  skip(count: number): Uint8Array {
    if (count > this.left) throw new Refusal("malformed", "truncated");
    this.#position += count;
    return this.bytes.subarray(this.#position - count, this.#position);
  }

  number(size: 1 | 2): number {
    return this.skip(size).reduce((value, byte) => value << 8 | byte, 0);
  }

  /** What follows a length of `size` bytes. */
  vector(size: 1 | 2): Reader {
    return new Reader(this.skip(this.number(size)));
  }

  end(): void {
    if (this.left > 0) throw new Refusal("malformed", "bytes after the end");
  }

  text(): string {
    return String.fromCharCode(...this.skip(this.left));
  }
}
