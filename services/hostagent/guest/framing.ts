import { crc32 } from "node:zlib";
import { MAX_FRAME_BYTES } from "./limits.ts";

// COBS(payload || crc32 little endian) and a zero byte. COBS cuts the input at its zero bytes and writes each piece
// (at most 254 bytes) after a byte that tells its length + 1; 255 means that no zero byte followed the piece.

const CHECKSUM_BYTES = 4;
const LONGEST_RUN = 254;

/**
 * Encodes one frame, with the zero byte that ends it.
 * @throws RangeError when the payload is larger than {@linkcode MAX_FRAME_BYTES}.
 */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  if (payload.length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${payload.length} bytes is too large`);
  const plain = new Uint8Array(payload.length + CHECKSUM_BYTES);
  plain.set(payload);
  new DataView(plain.buffer).setUint32(payload.length, crc32(payload), true);
  const encoded = new Uint8Array(plain.length + Math.ceil(plain.length / LONGEST_RUN) + 2);
  const length = stuff(plain, encoded);
  return encoded.subarray(0, length + 1); // The buffer was zero: this includes the end mark.
}

function stuff(input: Uint8Array, output: Uint8Array): number {
  let read = 0;
  let written = 0;
  for (;;) {
    const start = read;
    const end = Math.min(start + LONGEST_RUN, input.length);
    const mark = written++;
    while (read < end) {
      const byte = input[read]!;
      if (byte === 0) break;
      output[written++] = byte;
      read++;
    }
    output[mark] = read - start + 1;
    if (read < end) read++; // The zero byte that the mark stands for.
    else if (read - start < LONGEST_RUN || read === input.length) return written;
  }
}

/** What a {@linkcode FrameDecoder} reports. */
export interface FrameSink {
  /** A whole frame with a right checksum. The bytes are valid only during the call. */
  onFrame(payload: Uint8Array): void;
  /** A frame that was cut, damaged or too large; it was dropped. */
  onInvalid(reason: "cut" | "checksum" | "too large" | "too short"): void;
}

/**
 * Finds frames in a byte stream that comes in arbitrary pieces. It holds one frame of at most MAX_FRAME_BYTES and finds
 * the next frame after any garbage at the next zero byte.
 */
export class FrameDecoder {
  readonly #sink: FrameSink;
  readonly #plain = new Uint8Array(MAX_FRAME_BYTES + CHECKSUM_BYTES);
  #length = 0;
  /** Bytes of the current run that are still to come. */
  #runLeft = 0;
  /** A run of fewer than 254 bytes stands for a zero byte too, unless the frame ends there. */
  #zeroPending = false;
  #skipping = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Takes the next bytes of the stream; reports every frame that ends in them. */
  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) at = this.#skipping ? this.#skip(chunk, at) : this.#decode(chunk, at);
  }

  #skip(chunk: Uint8Array, at: number): number {
    const zero = chunk.indexOf(0, at);
    if (zero < 0) return chunk.length;
    this.#skipping = false;
    return zero + 1;
  }

  /** Decodes to the end of the frame or of the chunk; returns where it stopped. */
  #decode(chunk: Uint8Array, start: number): number {
    const plain = this.#plain;
    // Locals: the loop runs once per byte.
    let [at, length, runLeft, zeroPending] = [start, this.#length, this.#runLeft, this.#zeroPending];
    while (at < chunk.length) {
      if (runLeft > 0) {
        const end = Math.min(at + runLeft, chunk.length);
        const runStart = at;
        while (at < end && chunk[at] !== 0) plain[length++] = chunk[at++]!;
        runLeft -= at - runStart;
        if (at < end) {
          this.#reset();
          this.#sink.onInvalid("cut");
          return at + 1;
        }
        continue;
      }
      if (zeroPending) {
        // Stretches of zero bytes, frequent in files, are marks of 1 in a row.
        while (at < chunk.length && chunk[at] === 1 && length < plain.length) {
          plain[length++] = 0;
          at++;
        }
        if (at === chunk.length) break;
      }
      const mark = chunk[at++]!;
      if (mark === 0) {
        this.#reset();
        if (length > 0 || zeroPending) this.#deliver(length - CHECKSUM_BYTES);
        return at;
      }
      runLeft = mark - 1;
      if (length + runLeft + (zeroPending ? 1 : 0) > plain.length) {
        this.#reset();
        this.#skipping = true;
        this.#sink.onInvalid("too large");
        return at;
      }
      if (zeroPending) plain[length++] = 0;
      zeroPending = mark !== LONGEST_RUN + 1;
    }
    [this.#length, this.#runLeft, this.#zeroPending] = [length, runLeft, zeroPending];
    return at;
  }

  #deliver(length: number): void {
    if (length < 0) return this.#sink.onInvalid("too short");
    const payload = this.#plain.subarray(0, length);
    const checksum = new DataView(this.#plain.buffer).getUint32(length, true);
    if (crc32(payload) !== checksum) return this.#sink.onInvalid("checksum");
    this.#sink.onFrame(payload);
  }

  #reset(): void {
    this.#length = 0;
    this.#runLeft = 0;
    this.#zeroPending = false;
  }
}
