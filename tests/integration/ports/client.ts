import { connect, type Socket } from "node:net";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { once } from "node:events";

/** A request to the api's listener with a Host of its own. */
export interface PortRequest {
  host: string;
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | AsyncIterable<Uint8Array>;
  signal?: AbortSignal;
}

/** Its answer, unread. */
export interface PortAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: AsyncIterable<Uint8Array> & { destroy(): void };
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  text(): Promise<string>;
}

/** Sends a request; `fetch` cannot choose its Host. @param url `http://host:port` of the listener. */
export async function send(url: string, options: PortRequest): Promise<PortAnswer> {
  const { hostname, port } = new URL(url);
  const outgoing = httpRequest({
    hostname,
    port,
    method: options.method ?? "GET",
    path: options.path ?? "/",
    headers: { host: options.host, ...options.headers },
    agent: false,
    signal: options.signal,
  });
  const answered = Promise.withResolvers<IncomingMessage>();
  outgoing.on("response", answered.resolve);
  outgoing.on("error", answered.reject);
  if (options.body instanceof Uint8Array) outgoing.end(options.body);
  else void write(outgoing, options.body);
  const incoming = await answered.promise;
  const bytes = async () => {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    for await (const part of incoming) parts.push(part);
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  };
  return {
    status: incoming.statusCode!,
    headers: incoming.headers,
    body: incoming,
    bytes,
    text: async () => new TextDecoder().decode(await bytes()),
  };
}

async function write(outgoing: ReturnType<typeof httpRequest>, body: AsyncIterable<Uint8Array> | undefined) {
  for await (const part of body ?? []) {
    if (!outgoing.write(part)) await once(outgoing, "drain");
  }
  outgoing.end();
}

/** A TCP connection to the listener, read as text. */
export class RawClient implements Disposable {
  #text = "";
  #ended = false;
  #wake: (() => void) | undefined;
  readonly socket: Socket;

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.socket = connect(Number(port), hostname);
    this.socket.on("data", (data: Uint8Array) => {
      this.#text += new TextDecoder("latin1").decode(data);
      this.#wake?.();
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.#ended = true;
      this.#wake?.();
    });
  }

  write(text: string): void {
    this.socket.write(text, "latin1");
  }

  /** Waits for text and returns all up to its end. @throws Error when the connection closes before. */
  async until(text: string): Promise<string> {
    for (;;) {
      const at = this.#text.indexOf(text);
      if (at >= 0) {
        const found = this.#text.slice(0, at + text.length);
        this.#text = this.#text.slice(at + text.length);
        return found;
      }
      if (this.#ended) throw new Error(`closed after ${JSON.stringify(this.#text)}`);
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** Everything until the connection closes. */
  async rest(): Promise<string> {
    while (!this.#ended) await new Promise<void>((resolve) => this.#wake = resolve);
    return this.#text;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
