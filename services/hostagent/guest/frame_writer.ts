import { toBinary } from "@bufbuild/protobuf";
import { type Frame, FrameSchema } from "@torpor/proto/guest";
import { encodeFrame } from "./framing.ts";
import { OUTBOUND_LIMIT_BYTES, OUTBOUND_MARK_BYTES } from "./limits.ts";
import { unreachableError } from "./protocol_error.ts";

const WRITE_BYTES = 262_144;

/** Frames on their way to the guest, in order. */
export class FrameWriter {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  readonly #onError: (error: unknown) => void;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing = false;
  #closed = false;
  #waiting: (() => void)[] = [];

  /**
   * @param write writes some of the bytes and tells how many.
   * @param onError the connection broke, or the guest does not read.
   */
  constructor(write: (bytes: Uint8Array) => Promise<number>, onError: (error: unknown) => void) {
    this.#write = write;
    this.#onError = onError;
  }

  /** Queues a frame; nothing after {@linkcode FrameWriter.close}. */
  send(frame: Frame): void {
    this.sendBytes(encodeFrame(toBinary(FrameSchema, frame)));
  }

  /** Queues bytes as they are. */
  sendBytes(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > OUTBOUND_LIMIT_BYTES) {
      this.#onError(unreachableError("the guest agent does not read what it is sent"));
    } else if (!this.#writing) {
      this.#writing = true;
      void this.#run();
    }
  }

  /** Resolves when less than {@linkcode OUTBOUND_MARK_BYTES} is queued, or the writer is closed. */
  async drained(): Promise<void> {
    while (!this.#closed && this.#queuedBytes >= OUTBOUND_MARK_BYTES) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Drops what is queued and lets all waiters go. */
  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#wakeAll();
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const bytes = this.#takeBatch();
        for (let at = 0; at < bytes.length && !this.#closed;) at += await this.#write(bytes.subarray(at));
        this.#queuedBytes -= bytes.length;
        if (this.#queuedBytes < OUTBOUND_MARK_BYTES) this.#wakeAll();
      }
    } catch (error) {
      if (!this.#closed) this.#onError(error);
    } finally {
      this.#writing = false;
    }
  }

  /** Small frames share one write. */
  #takeBatch(): Uint8Array {
    let count = 1;
    let bytes = this.#queue[0]!.length;
    while (count < this.#queue.length && bytes + this.#queue[count]!.length <= WRITE_BYTES) {
      bytes += this.#queue[count++]!.length;
    }
    const frames = this.#queue.splice(0, count);
    if (count === 1) return frames[0]!;
    const batch = new Uint8Array(bytes);
    let at = 0;
    for (const frame of frames) {
      batch.set(frame, at);
      at += frame.length;
    }
    return batch;
  }

  #wakeAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}
