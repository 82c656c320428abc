import { TorporError } from "@torpor/errors";

// A connection through one HTTP exchange whose bodies flow at the same time. What the client sends is the request's body as
// it is: its end ends that direction, and when it breaks off the server sees that. The answer's body cannot tell an end from
// a break (Deno 2.9.6 keeps a connection open whose answer has failed as long as the request's body is not at its end), so
// it is made of frames: the number of bytes (32 bit, big endian) and the bytes; 0 ends the direction. Without that it broke.

const HEAD_BYTES = 4;

/** One frame of a tunnel's answer; without bytes the end of this direction. */
export function tunnelFrame(data: Uint8Array = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(HEAD_BYTES + data.length);
  new DataView(frame.buffer).setUint32(0, data.length);
  frame.set(data, HEAD_BYTES);
  return frame;
}

/** Reads the frames of a tunnel's answer. One reader at a time. */
export class TunnelReader {
  readonly #source: ReadableStreamDefaultReader<Uint8Array>;
  #chunk = new Uint8Array(0);
  /** Bytes of the frame under way that are still to come. */
  #left = 0;
  #ended = false;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#source = body.getReader();
  }

  /**
   * The next bytes; undefined at the end of the direction.
   * @throws TorporError `unavailable`: the connection broke.
   */
  async read(): Promise<Uint8Array | undefined> {
    if (this.#ended) return undefined;
    if (this.#left === 0) this.#left = await this.#readLength();
    if (this.#left === 0) {
      this.#ended = true;
      return undefined;
    }
    while (this.#chunk.length === 0) this.#chunk = await this.#pull();
    return this.#take(this.#left);
  }

  /** Resolves when the exchange is over: behind the end of this direction, when the other one has ended as well. */
  async over(): Promise<void> {
    while (!(await this.#source.read()).done);
  }

  async cancel(): Promise<void> {
    await this.#source.cancel();
  }

  #take(most: number): Uint8Array {
    const bytes = this.#chunk.subarray(0, most);
    this.#chunk = this.#chunk.subarray(bytes.length);
    this.#left -= bytes.length;
    return bytes;
  }

  async #readLength(): Promise<number> {
    const head = new Uint8Array(HEAD_BYTES);
    for (let at = 0; at < HEAD_BYTES;) {
      while (this.#chunk.length === 0) this.#chunk = await this.#pull();
      const part = this.#chunk.subarray(0, HEAD_BYTES - at);
      head.set(part, at);
      at += part.length;
      this.#chunk = this.#chunk.subarray(part.length);
    }
    return new DataView(head.buffer).getUint32(0);
  }

  async #pull(): Promise<Uint8Array<ArrayBuffer>> {
    let cause: unknown;
    try {
      const { done, value } = await this.#source.read();
      if (!done) return value as Uint8Array<ArrayBuffer>;
    } catch (thrown) {
      cause = thrown;
    }
    throw new TorporError("unavailable", "the connection to the port broke", { cause });
  }
}

/** The client's end of a tunnel. */
export class Tunnel {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: TunnelReader;
  readonly #stop: AbortController;

  private constructor(
    body: ReadableStream<Uint8Array>,
    writer: WritableStreamDefaultWriter<Uint8Array>,
    stop: AbortController,
  ) {
    this.#reader = new TunnelReader(body);
    this.#writer = writer;
    this.#stop = stop;
  }

  /**
   * Opens a tunnel. Nothing of what is sent through it leaves before it is open.
   * @returns the answer instead when that is a refusal; its body is to be read or cancelled.
   * @throws whatever `fetch` does, the signal's reason.
   */
  static async open(
    fetch: typeof globalThis.fetch,
    url: string,
    options: { headers: Record<string, string>; signal: AbortSignal },
  ): Promise<Tunnel | Response> {
    const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
    const writer = writable.getWriter();
    // A connection that is over has no use for what is still being written, and that is no news.
    writer.closed.catch(() => {});
    const stop = new AbortController();
    const signal = AbortSignal.any([options.signal, stop.signal]);
    try {
      const headers = { ...options.headers, "content-type": "application/octet-stream" };
      const response = await fetch(url, { method: "POST", headers, body: readable, signal });
      if (response.status === 200) {
        return new Tunnel(response.body!, writer as WritableStreamDefaultWriter<Uint8Array>, stop);
      }
      void writer.close().catch(() => {});
      return response;
    } catch (thrown) {
      void writer.abort(thrown).catch(() => {});
      throw thrown;
    }
  }

  /** The next bytes; undefined at the end of the direction. @throws TorporError `unavailable`: the connection broke. */
  read(): Promise<Uint8Array | undefined> {
    return this.#reader.read();
  }

  /** Sends bytes; waits while the other side does not read. The bytes are not to be changed any more. */
  write(data: Uint8Array): Promise<void> {
    return this.#writer.write(data);
  }

  /** Ends this direction. */
  end(): Promise<void> {
    return this.#writer.close();
  }

  /** Waits, behind the end of what is read, until the other side has taken everything and the connection is over. */
  over(): Promise<void> {
    return this.#reader.over();
  }

  /** Breaks the connection off, or, when both directions have ended, frees what it held. */
  close(): void {
    this.#stop.abort(new DOMException("the connection was given up", "AbortError"));
    this.#writer.abort().catch(() => {});
    this.#reader.cancel().catch(() => {});
  }
}
