import { create } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import { type Frame, FrameSchema, type Open, OpenSchema } from "@torpor/proto/guest";
import { currentTraceparent } from "@torpor/telemetry";
import type { FrameBody } from "./event_queue.ts";
import { MAX_PORT_STREAMS, MAX_STREAMS } from "./limits.ts";
import { protocolError } from "./protocol_error.ts";
import type { Subject } from "./status.ts";
import { abortError, GuestStream, type StreamPort } from "./stream.ts";
import type { StreamRules } from "./stream_rules.ts";

/** A request to the guest, as protobuf-es types it. */
export type GuestRequest = Open["request"];

/** Options of {@linkcode StreamTable.open}. */
export interface OpenOptions {
  subject: Subject;
  rules: StreamRules;
  signal?: AbortSignal;
  /** A call of the host agent itself, which goes out even when users have taken all streams. */
  essential?: boolean;
  /** A connection to a port: counted apart, so that no number of them keeps a command out. */
  toPort?: boolean;
  /** As for a stream: what the request allows the guest to send, bytes. */
  receiveBytes?: number;
  /** When the request was sent, if that was before the channel was open, as its first stream ({@linkcode EARLY_STREAM_ID}). */
  sentUnixMs?: number;
}

/** The stream of a request that goes out together with Hello: the first one of a channel. */
export const EARLY_STREAM_ID = 1;

/** The open streams of one channel: gives out ids, and brings each frame of the guest to its stream. */
export class StreamTable {
  readonly #open = new Map<number, GuestStream>();
  /** The open ones that are connections to ports. */
  readonly #toPorts = new Set<number>();
  /**
   * Streams that were cancelled, with the id of the first stream opened after that. Frames arrive in order, so an event
   * of such a later stream tells that the guest knows of the cancellation, and the id is forgotten.
   */
  readonly #cancelled = new Map<number, number>();
  #lastId = 0;
  readonly #port: StreamPort;
  readonly #send: (frame: Frame) => void;
  #failure: TorporError | undefined;

  constructor(transport: { send(frame: Frame): void; drained(): Promise<void> }) {
    this.#send = (frame) => transport.send(frame);
    this.#port = {
      send: (streamId, body) => this.#send(create(FrameSchema, { streamId, body })),
      drained: () => transport.drained(),
      released: (streamId, cancelled) => {
        this.#open.delete(streamId);
        this.#toPorts.delete(streamId);
        if (cancelled) this.#cancelled.set(streamId, this.#lastId + 1);
      },
    };
  }

  /** Number of open streams. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Sends a request.
   * @throws TorporError `rate_limited` when too many streams are open, `guest_unreachable` when the channel is closed,
   *   `invalid_argument` when the request is larger than a frame, or what an aborted signal stands for.
   */
  open(request: GuestRequest, options: OpenOptions): GuestStream {
    if (this.#failure) throw this.#failure;
    if (options.signal?.aborted) throw abortError(options.signal);
    if (options.toPort && this.#toPorts.size >= MAX_PORT_STREAMS) {
      throw new TorporError("rate_limited", "too many connections to this sandbox", { retryAfterSec: 1 });
    }
    if (this.#open.size - this.#toPorts.size >= MAX_STREAMS && !options.toPort && !options.essential) {
      throw new TorporError("rate_limited", "too many operations at once in this sandbox", { retryAfterSec: 1 });
    }
    const id = ++this.#lastId;
    if (options.toPort) this.#toPorts.add(id);
    const traceparent = currentTraceparent();
    const sentUnixMs = options.sentUnixMs ?? performance.timeOrigin + performance.now();
    const stream = new GuestStream(id, this.#port, { ...options, traceparent, sentUnixMs });
    this.#open.set(id, stream);
    if (options.sentUnixMs === undefined) this.#sendOpen(stream, create(OpenSchema, { traceparent, request }));
    return stream;
  }

  #sendOpen(stream: GuestStream, value: Open): void {
    try {
      this.#send(create(FrameSchema, { streamId: stream.id, body: { case: "open", value } }));
    } catch (cause) {
      const error = new TorporError("invalid_argument", "the request does not fit into a frame", { cause });
      stream.fail(error);
      throw error;
    }
  }

  /** Brings a frame to its stream. @throws TorporError `guest_protocol`. */
  dispatch(frame: Frame, encodedBytes: number): void {
    const { streamId } = frame;
    const stream = this.#open.get(streamId);
    if (!stream) return this.#dispatchLate(streamId, frame.body);
    this.#forgetCancelledBefore(streamId);
    stream.receive(frame.body, encodedBytes);
  }

  /** The channel is closed: every stream fails, and so does every later request. */
  failAll(error: TorporError): void {
    this.#failure = error;
    for (const stream of [...this.#open.values()]) stream.fail(error);
    this.#cancelled.clear();
  }

  #dispatchLate(streamId: number, body: FrameBody): void {
    if (!this.#cancelled.has(streamId)) throw protocolError(`a frame for stream ${streamId}, which is not open`);
    if (body.case === "end") this.#cancelled.delete(streamId);
  }

  #forgetCancelledBefore(streamId: number): void {
    for (const [id, barrier] of this.#cancelled) {
      if (barrier > streamId) return; // Insertion order is the order of barriers.
      this.#cancelled.delete(id);
    }
  }
}
