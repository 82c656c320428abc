import type { Frame, ProcessGap } from "@torpor/proto/guest";
import { MAX_DATA_BYTES } from "./limits.ts";

/** A frame's body, as protobuf-es types it. */
export type FrameBody = Frame["body"];

/** What the reader of a stream gets: a run of bytes, or an event that is not flow-controlled. */
export type StreamEvent =
  | { kind: "data"; channel: number; sequence: bigint; data: Uint8Array }
  | { kind: "body"; body: FrameBody };

type Entry =
  | { kind: "data"; channel: number; sequence: bigint; length: number }
  | { kind: "body"; body: FrameBody };

const SMALLEST_BUFFER = 4096;

/**
 * Events of one stream that nobody has read yet. Their bytes lie in one buffer and neighbours of the same channel are
 * joined, so a guest that sends its credit byte by byte costs little more than one that sends it in one piece.
 */
export class EventQueue {
  #entries: Entry[] = [];
  #first = 0;
  #bytes = new Uint8Array(0);
  #start = 0;
  #end = 0;

  get isEmpty(): boolean {
    return this.#first === this.#entries.length;
  }

  /** Appends an event that carries no data. */
  pushBody(body: FrameBody): void {
    this.#entries.push({ kind: "body", body });
  }

  /** Appends a gap in the output. Gaps cost no credit: one that follows another without output between them is joined to it. */
  pushGap(gap: ProcessGap): void {
    const last = this.#first < this.#entries.length ? this.#entries.at(-1) : undefined;
    if (last?.kind !== "body" || last.body.case !== "processGap") {
      return this.pushBody({ case: "processGap", value: gap });
    }
    const joined = last.body.value;
    joined.lastLostSequence = gap.lastLostSequence;
    joined.lostBytes = BigInt.asUintN(64, joined.lostBytes + gap.lostBytes);
  }

  /**
   * Appends bytes; they are copied.
   * @param channel stdout, stderr or file; neighbours of one channel become one event.
   * @param sequence number of the event; a joined event has the number of its last part.
   */
  pushData(channel: number, sequence: bigint, data: Uint8Array): void {
    this.#makeRoom(data.length);
    this.#bytes.set(data, this.#end);
    this.#end += data.length;
    const last = this.#first < this.#entries.length ? this.#entries.at(-1) : undefined;
    if (last?.kind === "data" && last.channel === channel && last.length + data.length <= MAX_DATA_BYTES) {
      last.length += data.length;
      last.sequence = sequence;
    } else {
      this.#entries.push({ kind: "data", channel, sequence, length: data.length });
    }
  }

  /** Takes the oldest event. Its bytes belong to the caller. */
  shift(): StreamEvent | undefined {
    const entry = this.#entries[this.#first];
    if (!entry) return undefined;
    this.#first++;
    // Drops the read part now and then: in proportion to what is kept, so that it costs nothing on average.
    if (this.#first > 64 && this.#first * 2 > this.#entries.length) {
      this.#entries.splice(0, this.#first);
      this.#first = 0;
    }
    if (entry.kind === "body") return entry;
    const data = this.#bytes.slice(this.#start, this.#start + entry.length);
    this.#start += entry.length;
    if (this.#start === this.#end) this.#start = this.#end = 0;
    return { kind: "data", channel: entry.channel, sequence: entry.sequence, data };
  }

  #makeRoom(needed: number): void {
    const held = this.#end - this.#start;
    if (this.#end + needed <= this.#bytes.length) return;
    if ((held + needed) * 2 <= this.#bytes.length) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
    } else {
      const size = Math.max(SMALLEST_BUFFER, (held + needed) * 2);
      const larger = new Uint8Array(size);
      larger.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = larger;
    }
    this.#start = 0;
    this.#end = held;
  }
}
