import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { join } from "@std/path";
import { type Frame, FrameSchema } from "@torpor/proto/guest";
import { encodeFrame, FrameDecoder } from "../framing.ts";
import { PROTOCOL_VERSION } from "../limits.ts";
import { type GuestChannel, openGuestChannel } from "../mod.ts";

/** A frame's body as tests write it. */
export type BodyInit = NonNullable<MessageInitShape<typeof FrameSchema>["body"]>;
type BodyCase = NonNullable<Frame["body"]["case"]>;

/** The agent's side of the protocol in the test's hand, to do what a real agent never does. */
export class FakeGuest implements AsyncDisposable {
  readonly socketPath: string;
  readonly #directory: string;
  readonly #listener: Deno.Listener;
  readonly #frames: Frame[] = [];
  #wake = Promise.withResolvers<void>();
  #host: Deno.Conn | undefined;
  #reading: Promise<void>;
  #paused = Promise.withResolvers<void>();
  /** Answers each Hello at once. */
  greets: boolean;

  private constructor(directory: string, options: { greets: boolean; reads: boolean }) {
    this.#directory = directory;
    this.socketPath = join(directory, "agent.sock");
    this.#listener = Deno.listen({ transport: "unix", path: this.socketPath });
    this.greets = options.greets;
    if (options.reads) this.#paused.resolve();
    this.#reading = this.#read();
  }

  static async start(options: { greets?: boolean; reads?: boolean } = {}): Promise<FakeGuest> {
    return new FakeGuest(await Deno.makeTempDir(), { greets: true, reads: true, ...options });
  }

  /** A channel to this guest, greeted. */
  async open(): Promise<GuestChannel> {
    return await openGuestChannel({ socketPath: this.socketPath, signal: new AbortController().signal });
  }

  /** The oldest frame of the host with this body that no call has returned yet. */
  async receive(wanted: BodyCase): Promise<Frame> {
    for (;;) {
      const index = this.#frames.findIndex((frame) => frame.body.case === wanted);
      if (index >= 0) return this.#frames.splice(index, 1)[0]!;
      await this.#wake.promise;
    }
  }

  /** Frames that have arrived and were not returned by {@linkcode receive}. */
  get pending(): Frame[] {
    return this.#frames;
  }

  async send(streamId: number, ...bodies: BodyInit[]): Promise<void> {
    for (const body of bodies) await this.sendBytes(frameBytes(streamId, body));
  }

  async end(streamId: number, code = 1, message = ""): Promise<void> {
    await this.send(streamId, { case: "end", value: { status: { code, message } } });
  }

  async sendBytes(bytes: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < bytes.length;) at += await this.#host!.write(bytes.subarray(at));
    } catch (error) {
      // The host may close on the first of several bad frames.
      if (!(error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset)) throw error;
    }
  }

  /** Ends the silence of `reads: false`. */
  startReading(): void {
    this.#paused.resolve();
  }

  hangUp(): void {
    this.#host?.close();
    this.#host = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#paused.resolve();
    this.#listener.close();
    this.hangUp();
    await this.#reading;
    await Deno.remove(this.#directory, { recursive: true });
  }

  async #read(): Promise<void> {
    const decoder = new FrameDecoder({
      onFrame: (payload) => this.#onFrame(fromBinary(FrameSchema, payload.slice())),
      onInvalid: (reason) => {
        throw new Error(`the host sent a frame that was ${reason}`);
      },
    });
    try {
      const host = this.#host = await this.#listener.accept();
      const buffer = new Uint8Array(65_536);
      await this.#paused.promise;
      for (let count = await host.read(buffer); count !== null; count = await host.read(buffer)) {
        decoder.push(buffer.subarray(0, count));
      }
    } catch (error) {
      const closed = error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted ||
        error instanceof Deno.errors.ConnectionReset;
      if (!closed) throw error;
    }
  }

  #onFrame(frame: Frame): void {
    if (frame.body.case === "hello" && this.greets) void this.send(0, helloReply(frame.body.value.epoch));
    this.#frames.push(frame);
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}

/** One encoded frame. */
export function frameBytes(streamId: number, body: BodyInit): Uint8Array {
  return encodeFrame(toBinary(FrameSchema, create(FrameSchema, { streamId, body })));
}

/** An agent's answer to a Hello. */
export function helloReply(epoch: bigint, protocolVersion = PROTOCOL_VERSION): BodyInit {
  return { case: "helloReply", value: { epoch, protocolVersion, agentVersion: "fake", bootId: 7n } };
}
