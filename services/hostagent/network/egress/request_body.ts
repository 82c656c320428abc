import { Refusal } from "./refusal.ts";
import type { BodyFraming } from "./request_head.ts";

const CR = 0x0d;
const LF = 0x0a;
/** A chunk's size with its extensions, or a trailer line. */
const MAX_LINE_BYTES = 1024;
const MAX_TRAILER_BYTES = 8192;
const CHUNK_LINE = /^([0-9a-f]{1,12})[ \t]*(;[\t\x20-\x7e]*)?$/i;
const TRAILER_LINE = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*$/;

/** Follows a request's body, so that nothing behind it is sent on: on this connection that would be a second request. */
export interface RequestBody {
  /** The body has ended. */
  readonly done: boolean;
  /**
   * Takes the next bytes of the connection.
   * @returns how many of them belong to the body. @throws Refusal `malformed`.
   */
  take(bytes: Uint8Array): number;
}

export function requestBody(framing: BodyFraming): RequestBody {
  return framing.kind === "chunked" ? new ChunkedBody() : new LengthBody(framing.bytes);
}

class LengthBody implements RequestBody {
  constructor(private left: number) {}

  get done(): boolean {
    return this.left === 0;
  }

  take(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.left);
    this.left -= taken;
    return taken;
  }
}

/** RFC 9112, 7.1. */
class ChunkedBody implements RequestBody {
  #state: "size" | "data" | "data_end" | "trailer" | "done" = "size";
  /** Bytes of the chunk that are to come. */
  #left = 0;
  #line = "";
  #trailerBytes = 0;

  get done(): boolean {
    return this.#state === "done";
  }

  take(bytes: Uint8Array): number {
    let position = 0;
    while (position < bytes.length && this.#state !== "done") {
      if (this.#state === "data") {
        const taken = Math.min(bytes.length - position, this.#left);
        this.#left -= taken;
        position += taken;
        if (this.#left === 0) this.#state = "data_end";
      } else {
        this.#takeLineByte(bytes[position++]!);
      }
    }
    return position;
  }

  #takeLineByte(byte: number): void {
    const ended = this.#line.endsWith("\r");
    if (byte === LF && ended) {
      const line = this.#line.slice(0, -1);
      this.#line = "";
      return this.#takeLine(line);
    }
    // A bare CR or LF ends a line for some readers and not for others.
    if (byte === LF || ended || this.#line.length >= MAX_LINE_BYTES) throw new Refusal("malformed", "chunk");
    if (this.#state === "data_end" && byte !== CR) throw new Refusal("malformed", "end of a chunk");
    this.#line += String.fromCharCode(byte);
  }

  #takeLine(line: string): void {
    switch (this.#state) {
      case "size": {
        const [, size] = CHUNK_LINE.exec(line) ?? [];
        if (size === undefined) throw new Refusal("malformed", "size of a chunk");
        this.#left = parseInt(size, 16);
        this.#state = this.#left === 0 ? "trailer" : "data";
        return;
      }
      case "data_end":
        this.#state = "size";
        return;
      case "trailer":
        this.#trailerBytes += line.length;
        if (line === "") this.#state = "done";
        else if (!TRAILER_LINE.test(line) || this.#trailerBytes > MAX_TRAILER_BYTES) {
          throw new Refusal("malformed", "trailer");
        }
    }
  }
}
