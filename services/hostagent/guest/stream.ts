import { create } from "@bufbuild/protobuf";
import { asTorporError, TorporError } from "@torpor/errors";
import {
  CancelSchema,
  CreditSchema,
  type End,
  FileChunkSchema,
  PortChunkSchema,
  StatusCode,
  StdinChunkSchema,
} from "@torpor/proto/guest";
import { EventQueue, type FrameBody, type StreamEvent } from "./event_queue.ts";
import { CREDIT_STEP_BYTES, INITIAL_CREDIT_BYTES, MAX_DATA_BYTES } from "./limits.ts";
import { protocolError } from "./protocol_error.ts";
import { recordGuestSpans, type SentRequest } from "./reported_spans.ts";
import { statusError, type Subject } from "./status.ts";
import type { StreamRules } from "./stream_rules.ts";

/** What a stream needs from its channel. */
export interface StreamPort {
  /** Queues a frame of the stream. */
  send(streamId: number, body: FrameBody): void;
  /** Resolves when little enough is queued for the guest. */
  drained(): Promise<void>;
  /** The stream takes no more events. `cancelled`: the guest does not know yet. */
  released(streamId: number, cancelled: boolean): void;
}

/** How a stream is made. */
export interface StreamOptions extends SentRequest {
  subject: Subject;
  rules: StreamRules;
  signal?: AbortSignal;
  /** What the guest was told that it may send, bytes. Default {@linkcode INITIAL_CREDIT_BYTES}. */
  receiveBytes?: number;
}

/** The kinds of frames that carry bytes to the guest. */
type DataKind = "stdin" | "fileChunk" | "portChunk";

/**
 * One request and its answer. Events wait in a bounded queue: the guest may send only what the reader has made room for
 * (credit), so a reader that stalls holds back its own stream and no other.
 */
export class GuestStream {
  readonly id: number;
  readonly #port: StreamPort;
  readonly #options: StreamOptions;
  readonly #queue = new EventQueue();
  /** Bytes the guest may still send; bytes that were read and not granted again yet. */
  #receiveCredit: number;
  #consumed = 0;
  #sendCredit = INITIAL_CREDIT_BYTES;
  /** What the guest has given at first: it gives back what it has taken, so it never amounts to more. */
  #sendWindow = INITIAL_CREDIT_BYTES;
  /** Set once: "ended" with OK, or what every later use fails with. */
  #outcome: "ended" | TorporError | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeSender: (() => void) | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(id: number, port: StreamPort, options: StreamOptions) {
    this.id = id;
    this.#port = port;
    this.#options = options;
    this.#receiveCredit = options.receiveBytes ?? INITIAL_CREDIT_BYTES;
    options.signal?.addEventListener("abort", this.#onAbort);
  }

  /** Takes a frame of the guest. @throws TorporError `guest_protocol`. */
  receive(body: FrameBody, encodedBytes: number): void {
    if (body.case === "end") return this.#receiveEnd(body.value);
    if (body.case === "credit") return this.#receiveCreditFrame(body.value.bytes);
    try {
      this.#options.rules.accept(body, encodedBytes);
    } catch (thrown) {
      const error = asTorporError(thrown);
      if (error.code === "guest_protocol") throw error;
      return this.cancel(error);
    }
    if (body.case === "portConnected") this.#sendCredit = this.#sendWindow = body.value.windowBytes;
    this.#enqueue(body);
    this.#wake();
  }

  /** The channel is gone: the reader gets what has arrived, then `error`. */
  fail(error: TorporError): void {
    if (this.#outcome === undefined) this.#settle(error);
  }

  /**
   * The next event; undefined after an End with OK. One reader at a time.
   * @throws TorporError the guest's status, `guest_unreachable`, or what the stream was cancelled with.
   */
  async next(): Promise<StreamEvent | undefined> {
    for (;;) {
      const event = this.#queue.shift();
      if (event) {
        if (event.kind === "data") this.#grant(event.data.length);
        return event;
      }
      if (this.#outcome === "ended") return undefined;
      if (this.#outcome) throw this.#outcome;
      await new Promise<void>((resolve) => this.#wakeReader = resolve);
    }
  }

  /**
   * Sends stdin, file content or bytes for a port as credit allows, in the order of the calls.
   * @returns when the last byte is on its way.
   * @throws TorporError as {@linkcode GuestStream.next}; `conflict` when the request has ended with OK.
   */
  sendData(kind: DataKind, data: Uint8Array, eof: boolean): Promise<void> {
    const sent = this.#sending.then(() => this.#sendPieces(kind, data, eof));
    this.#sending = sent.catch(() => {}); // The caller has the error; the next call finds it in the outcome.
    return sent;
  }

  /** The stream is over, however it ended. */
  get isOver(): boolean {
    return this.#outcome !== undefined;
  }

  /**
   * Tells the guest that nothing more is wanted: a process goes on, a half-written file is dropped. Later uses fail with
   * `error`. Nothing happens when the stream is over.
   */
  cancel(error: TorporError = new TorporError("canceled", "the request was cancelled")): void {
    if (this.#outcome !== undefined) return;
    this.#port.send(this.id, { case: "cancel", value: create(CancelSchema) });
    this.#settle(error, true);
  }

  #receiveEnd(end: End): void {
    const { status } = end;
    if (!status || status.code === StatusCode.UNSPECIFIED) throw protocolError("an end without a status");
    if (status.code === StatusCode.OK) this.#options.rules.complete();
    recordGuestSpans(this.#options, end.spans, performance.timeOrigin + performance.now());
    this.#settle(status.code === StatusCode.OK ? "ended" : statusError(status, this.#options.subject));
  }

  #receiveCreditFrame(bytes: number): void {
    this.#sendCredit += bytes;
    if (this.#sendCredit > this.#sendWindow) throw protocolError("more credit than was used");
    this.#wakeSender?.();
  }

  #enqueue(body: FrameBody): void {
    if (body.case === "processOutput") this.#enqueueData(body.value.stream, body.value.sequence, body.value.data);
    else if (body.case === "fileChunk") this.#enqueueData(0, 0n, body.value.data);
    else if (body.case === "portChunk") {
      this.#enqueueData(0, 0n, body.value.data);
      if (body.value.eof) this.#queue.pushBody(body);
    } else if (body.case === "processGap") this.#queue.pushGap(body.value);
    else this.#queue.pushBody(body);
  }

  #enqueueData(channel: number, sequence: bigint, data: Uint8Array): void {
    if (data.length > MAX_DATA_BYTES) throw protocolError("a data field is too long");
    if (data.length > this.#receiveCredit) throw protocolError("more data than credit");
    if (data.length === 0) return;
    this.#receiveCredit -= data.length;
    this.#queue.pushData(channel, sequence, data);
  }

  #grant(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < CREDIT_STEP_BYTES || this.#outcome !== undefined) return;
    this.#port.send(this.id, { case: "credit", value: create(CreditSchema, { bytes: this.#consumed }) });
    this.#receiveCredit += this.#consumed;
    this.#consumed = 0;
  }

  async #sendPieces(kind: DataKind, data: Uint8Array, eof: boolean): Promise<void> {
    let at = 0;
    do {
      const length = await this.#waitForCredit(data.length - at);
      const piece = data.subarray(at, at + length);
      at += length;
      this.#port.send(this.id, dataBody(kind, { data: piece, eof: eof && at === data.length }));
      await this.#port.drained();
    } while (at < data.length);
  }

  async #waitForCredit(wanted: number): Promise<number> {
    for (;;) {
      if (this.#outcome === "ended") throw new TorporError("conflict", "the request has ended");
      if (this.#outcome) throw this.#outcome;
      if (wanted === 0) return 0;
      const length = Math.min(wanted, this.#sendCredit, MAX_DATA_BYTES);
      if (length > 0) {
        this.#sendCredit -= length;
        return length;
      }
      await new Promise<void>((resolve) => this.#wakeSender = resolve);
    }
  }

  #settle(outcome: "ended" | TorporError, cancelled = false): void {
    this.#outcome = outcome;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#port.released(this.id, cancelled);
    this.#wake();
    this.#wakeSender?.();
  }

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = undefined;
  }

  readonly #onAbort = () => this.cancel(abortError(this.#options.signal!));
}

function dataBody(kind: DataKind, fields: { data: Uint8Array; eof: boolean }): FrameBody {
  switch (kind) {
    case "stdin":
      return { case: kind, value: create(StdinChunkSchema, fields) };
    case "fileChunk":
      return { case: kind, value: create(FileChunkSchema, fields) };
    case "portChunk":
      return { case: kind, value: create(PortChunkSchema, fields) };
  }
}

/** The error that an aborted signal stands for: its own TorporError, `deadline_exceeded`, else `canceled`. */
export function abortError(signal: AbortSignal): TorporError {
  const cause = signal.reason;
  if (cause instanceof TorporError) return cause;
  if (cause instanceof DOMException && cause.name === "TimeoutError") {
    return new TorporError("deadline_exceeded", "the guest did not answer in time", { cause });
  }
  return new TorporError("canceled", "the request was cancelled", { cause });
}
