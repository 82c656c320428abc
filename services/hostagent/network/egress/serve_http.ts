import type { Connection } from "./connection.ts";
import { pump, type Sink, writeAll } from "./pump.ts";
import { Refusal } from "./refusal.ts";
import { type RequestBody, requestBody } from "./request_body.ts";
import { endOfHead, readRequestHead, type RequestHead } from "./request_head.ts";
import { SwitchWatch } from "./switch_watch.ts";

const HTTP_PORT = 80;

/**
 * Passes one request on to the server that its Host header names, and the response back. One request for each connection: the
 * server is told so (`Connection: close`), and what the client sends behind it goes nowhere, as it could name another host. After
 * a switch to WebSocket that the server has confirmed, bytes pass freely.
 * @param named is called when the client has said what it wants.
 * @throws Refusal.
 */
export async function serveHttp(connection: Connection, named: () => void): Promise<void> {
  const { head, rest } = await readHead(connection);
  named();
  const upstream = await connection.connect(head.host, HTTP_PORT);
  await writeAll(upstream, head.forwarded);
  const request = new RequestPump(connection, upstream, head);
  await connection.both(request.run(rest), request.respond());
}

async function readHead(connection: Connection): Promise<{ head: RequestHead; rest: Uint8Array }> {
  const buffer = new Uint8Array(connection.reach.limits.requestHeadBytes);
  for (let filled = 0;;) {
    if (filled === buffer.length) throw new Refusal("head_too_large");
    const count = await connection.read(buffer.subarray(filled));
    if (count === null) throw new Refusal("abandoned");
    // Two line ends that lie across two reads are found, too.
    const end = endOfHead(buffer.subarray(0, filled + count), Math.max(0, filled - 3));
    filled += count;
    if (end !== -1) return { head: readRequestHead(buffer.subarray(0, end)), rest: buffer.slice(end, filled) };
  }
}

/** The two directions of one request. */
class RequestPump {
  readonly #body: RequestBody;
  /** Only for requests that ask for a switch. */
  readonly #watch: SwitchWatch | undefined;
  readonly #upgrade: boolean;

  constructor(
    private readonly connection: Connection,
    private readonly upstream: Deno.Conn,
    head: RequestHead,
  ) {
    this.#body = requestBody(head.body);
    this.#upgrade = head.upgrade;
    if (head.upgrade) this.#watch = new SwitchWatch();
  }

  /** Client to server. @param first what came with the head. */
  async run(first: Uint8Array): Promise<void> {
    const sink: Sink = {
      write: (bytes) => this.#send(bytes),
      // The end of the client's input is passed on only where it means something: servers take it for an abort.
      closeWrite: async () => {
        if (this.#watch?.switched) await this.upstream.closeWrite();
        else if (!this.#body.done) this.connection.close();
      },
    };
    await writeAll(sink, first);
    const see = () => (this.connection.active(), true);
    await pump(this.connection.client, sink, see);
  }

  /** Server to client. */
  async respond(): Promise<void> {
    await pump(this.upstream, this.connection.client, (bytes) => {
      this.connection.active();
      this.#watch?.take(bytes);
      return true;
    });
    // The response has ended: nobody hears what the client may have to say yet.
    if (!this.#watch?.switched) this.connection.closeSoon();
  }

  async #send(bytes: Uint8Array): Promise<number> {
    if (this.#watch?.switched) return await this.upstream.write(bytes);
    const count = this.#body.take(bytes);
    if (count > 0) await writeAll(this.upstream, bytes.subarray(0, count));
    const surplus = bytes.subarray(count);
    // Some clients send a line end behind a body (RFC 9112, 2.2).
    if (surplus.some((byte) => byte !== 0x0d && byte !== 0x0a)) throw new Refusal("pipelined");
    return bytes.length;
  }
}
