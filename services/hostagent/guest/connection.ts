import { create, fromBinary } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import { type Frame, FrameSchema, type HelloReply, HelloSchema } from "@torpor/proto/guest";
import { waitUpTo } from "./wait_up_to.ts";
import { FrameWriter } from "./frame_writer.ts";
import { FrameDecoder } from "./framing.ts";
import { PROTOCOL_VERSION } from "./limits.ts";
import { protocolError, unreachableError } from "./protocol_error.ts";
import { abortError } from "./stream.ts";

const READ_BYTES = 262_144;
/**
 * A guest that boots does not answer yet, and a restarting agent may lose a Hello. A resumed guest answers its first one
 * after 60 to 130 ms (measured with TCG), and a second Hello meanwhile would only make it work twice.
 */
const FIRST_HELLO_INTERVAL_MS = 250;
const LAST_HELLO_INTERVAL_MS = 1000;
/** A guest that has answered an older Hello works through the rest: only a lost one needs another. */
const ALIVE_HELLO_INTERVAL_MS = 2000;
const CONNECT_INTERVAL_MS = 20;
/** An early request is answered by two frames. */
const MAX_UNDELIVERED = 8;

/** Receives what the guest sends after the greeting. */
export interface FrameReceiver {
  /** The frame's byte fields are valid only during the call. @throws TorporError `guest_protocol`: closes. */
  onFrame(frame: Frame, encodedBytes: number): void;
}

/**
 * The byte stream to one guest agent, as frames. It begins with the greeting and ends for good at the first failure.
 *
 * Greeting: a zero byte (ends whatever the last host end left half-sent), then Hello with a new epoch. Everything before
 * the HelloReply with that epoch belongs to the past and is dropped. Each repetition takes a new epoch and only the
 * newest counts: the guest handles Hellos in order, so no older one can reset the streams that follow.
 */
export class GuestConnection {
  readonly #socket: Deno.UnixConn;
  readonly #writer: FrameWriter;
  readonly #closed = Promise.withResolvers<TorporError | undefined>();
  #isClosed = false;
  #receiver: FrameReceiver | undefined;
  readonly #early: (() => Frame) | undefined;
  /** Answers to the early frame that came together with the HelloReply. */
  #undelivered: Uint8Array[] = [];
  #isGreeted = false;
  #epoch = 0n;
  readonly #greeted = Promise.withResolvers<HelloReply>();
  #alive = false;
  /** `performance.now()` of the last bytes of the guest, milliseconds. */
  lastReceivedMs = performance.now();

  private constructor(socket: Deno.UnixConn, early?: () => Frame) {
    this.#socket = socket;
    this.#early = early;
    this.#writer = new FrameWriter((bytes) => socket.write(bytes), (error) => this.close(connectionError(error)));
    this.#greeted.promise.catch(() => {});
    void this.#receive();
  }

  /**
   * Connects and greets, again and again until the guest answers: it may still boot, and its socket may not exist yet.
   * @param early makes a frame that follows each Hello at once, for what the guest should hear before it has answered. A
   *   guest that starts works through all Hellos, so it may be carried out more than once.
   * @throws TorporError `guest_unreachable` (cause: the signal's reason) when aborted, `guest_protocol`.
   */
  static async open(
    socketPath: string,
    signal: AbortSignal,
    early?: () => Frame,
  ): Promise<{ connection: GuestConnection; hello: HelloReply }> {
    const connection = new GuestConnection(await connect(socketPath, signal), early);
    try {
      return { connection, hello: await connection.#greet(signal) };
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Resolves when the connection is over: undefined after {@linkcode close} without an error. */
  get closed(): Promise<TorporError | undefined> {
    return this.#closed.promise;
  }

  /** Where frames go from now on. Before, none may come. */
  deliverTo(receiver: FrameReceiver): void {
    this.#receiver = receiver;
    const undelivered = this.#undelivered;
    this.#undelivered = [];
    try {
      for (const payload of undelivered) this.#onPayload(payload);
    } catch (error) {
      this.close(connectionError(error));
    }
  }

  send(frame: Frame): void {
    this.#writer.send(frame);
  }

  drained(): Promise<void> {
    return this.#writer.drained();
  }

  /** Ends the connection; only the first call counts. */
  close(error?: TorporError): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#writer.close();
    this.#socket.close();
    this.#greeted.reject(error ?? unreachableError("the connection to the guest agent was closed"));
    this.#closed.resolve(error);
  }

  async #greet(signal: AbortSignal): Promise<HelloReply> {
    const onAbort = () => this.close(notAnswering(signal));
    signal.addEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
    const done = new AbortController();
    try {
      void this.#repeatHello(done.signal);
      const hello = await this.#greeted.promise;
      if (hello.protocolVersion === PROTOCOL_VERSION) return hello;
      throw protocolError(`it speaks version ${hello.protocolVersion}, not ${PROTOCOL_VERSION}`);
    } finally {
      done.abort();
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #repeatHello(done: AbortSignal): Promise<void> {
    this.#writer.sendBytes(new Uint8Array(1));
    for (let interval = FIRST_HELLO_INTERVAL_MS; !done.aborted && !this.#isClosed;) {
      this.#epoch = crypto.getRandomValues(new BigUint64Array(1))[0]!;
      const value = create(HelloSchema, { epoch: this.#epoch, protocolVersion: PROTOCOL_VERSION });
      this.#writer.send(create(FrameSchema, { body: { case: "hello", value } }));
      if (this.#early) this.#writer.send(this.#early());
      await waitUpTo(this.#alive ? ALIVE_HELLO_INTERVAL_MS : interval, done);
      interval = Math.min(interval * 2, LAST_HELLO_INTERVAL_MS);
    }
  }

  async #receive(): Promise<void> {
    const decoder = new FrameDecoder({
      onFrame: (payload) => this.#onPayload(payload),
      onInvalid: (reason) => {
        // A damaged frame after the greeting would be a silent hole in somebody's data.
        if (this.#receiver) throw protocolError(`a frame was ${reason}`);
      },
    });
    const buffer = new Uint8Array(READ_BYTES);
    try {
      while (!this.#isClosed) {
        const count = await this.#socket.read(buffer);
        if (count === null) throw unreachableError("the guest's port was closed");
        this.lastReceivedMs = performance.now();
        decoder.push(buffer.subarray(0, count));
      }
    } catch (error) {
      this.close(connectionError(error));
    }
  }

  #onPayload(payload: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#isGreeted && !this.#receiver) return this.#keep(payload);
    const frame = this.#parse(payload);
    if (this.#receiver) return this.#receiver.onFrame(frame!, payload.length);
    if (frame?.body.case !== "helloReply") return;
    this.#alive = true;
    if (frame.body.value.epoch !== this.#epoch) return;
    this.#isGreeted = true;
    this.#greeted.resolve(frame.body.value);
  }

  /** Whoever waits for the greeting takes over within the same turn, so hardly more than one answer can come before. */
  #keep(payload: Uint8Array): void {
    if (this.#undelivered.length === MAX_UNDELIVERED) throw protocolError("too many frames behind the greeting");
    this.#undelivered.push(payload.slice());
  }

  /** undefined before the greeting: what an older agent or epoch has sent need not be understood. */
  #parse(payload: Uint8Array): Frame | undefined {
    try {
      return fromBinary(FrameSchema, payload, { readUnknownFields: false });
    } catch (cause) {
      if (!this.#receiver) return undefined;
      throw protocolError("a frame is no Frame message", cause);
    }
  }
}

async function connect(path: string, signal: AbortSignal): Promise<Deno.UnixConn> {
  for (;;) {
    if (signal.aborted) throw notAnswering(signal);
    try {
      return await Deno.connect({ transport: "unix", path });
    } catch (error) {
      // The VMM makes the socket while it starts.
      const early = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused;
      if (!early) throw unreachableError("cannot connect to the guest's port", error);
      await waitUpTo(CONNECT_INTERVAL_MS, signal);
    }
  }
}

function notAnswering(signal: AbortSignal): TorporError {
  if (signal.reason instanceof TorporError) return signal.reason;
  return unreachableError("the guest agent did not answer", abortError(signal));
}

function connectionError(error: unknown): TorporError {
  return error instanceof TorporError ? error : unreachableError("the connection to the guest agent broke", error);
}
