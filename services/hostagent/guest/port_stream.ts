import { protocolError } from "./protocol_error.ts";
import type { GuestStream } from "./stream.ts";

/** A TCP connection to a port of the guest. Each direction ends by itself. */
export class PortStream {
  readonly #stream: GuestStream;

  private constructor(stream: GuestStream) {
    this.#stream = stream;
  }

  /** Waits until the guest is connected. @throws TorporError `port_closed`. */
  static async open(stream: GuestStream): Promise<PortStream> {
    const event = await stream.next();
    if (event?.kind === "body" && event.body.case === "portConnected") return new PortStream(stream);
    throw protocolError("a port without portConnected");
  }

  /**
   * The next bytes of the guest; undefined at the end of this direction. One reader at a time, and none after the end.
   * @throws TorporError `port_closed` when the connection was reset, `guest_unreachable`, what it was cancelled with.
   */
  async read(): Promise<Uint8Array | undefined> {
    const event = await this.#stream.next();
    if (event?.kind === "data") return event.data;
    if (event?.kind === "body" && event.body.case === "portChunk") return undefined;
    throw protocolError("a port that ends twice");
  }

  /** Sends bytes; waits while the guest's program does not read. @throws TorporError as {@linkcode read}; `conflict` after the end. */
  write(data: Uint8Array): Promise<void> {
    return this.#stream.sendData("portChunk", data, false);
  }

  /** Ends this direction behind what was written. @throws as {@linkcode write}. */
  end(): Promise<void> {
    return this.#stream.sendData("portChunk", new Uint8Array(0), true);
  }

  /** Waits for the end of both directions; call it behind the end of what is read. @throws as {@linkcode read}. */
  async ended(): Promise<void> {
    if (await this.#stream.next()) throw protocolError("a port that goes on behind its end");
  }

  /** Resets the connection; nothing happens when both directions have ended. */
  cancel(): void {
    this.#stream.cancel();
  }
}
