import { TorporError } from "@torpor/errors";
import { OutputStream } from "@torpor/proto/guest";
import type { FrameBody } from "./event_queue.ts";
import { INITIAL_CREDIT_BYTES, MAX_LISTING_BYTES, MAX_LISTING_ENTRIES } from "./limits.ts";
import { protocolError } from "./protocol_error.ts";

/** Which events a kind of request allows, and in which order. One instance per stream. */
export interface StreamRules {
  /**
   * Checks the next event.
   * @param encodedBytes size of its frame.
   * @throws TorporError `guest_protocol`; any other code ends only this stream.
   */
  accept(body: FrameBody, encodedBytes: number): void;
  /** Checks that the request may end with OK now. Throws as {@linkcode StreamRules.accept}. */
  complete(): void;
}

type EventCase = NonNullable<FrameBody["case"]>;

/** Exactly these events, each once, in this order; none for requests that only end. */
export function exactly(...expected: EventCase[]): StreamRules {
  let next = 0;
  return {
    accept(body) {
      if (body.case !== expected[next]) throw unexpected(body);
      next++;
    },
    complete() {
      if (next < expected.length) throw protocolError(`the answer lacks ${expected[next]}`);
    },
  };
}

/** At most so many of one kind of event. */
export function atMost(limit: number, wanted: EventCase): StreamRules {
  let count = 0;
  return {
    accept(body) {
      if (body.case !== wanted || ++count > limit) throw unexpected(body);
    },
    complete() {},
  };
}

/** Any number of one kind of event, up to the limits of a listing (`output_too_large` beyond them). */
export function listing(entry: EventCase): StreamRules {
  let entries = 0;
  let bytes = 0;
  return {
    accept(body, encodedBytes) {
      if (body.case !== entry) throw unexpected(body);
      entries++;
      bytes += encodedBytes;
      if (entries > MAX_LISTING_ENTRIES || bytes > MAX_LISTING_BYTES) {
        throw new TorporError("output_too_large", `the listing has more than ${MAX_LISTING_ENTRIES} entries`, {
          hint: "list a smaller directory, or run a command that selects",
        });
      }
    },
    complete() {},
  };
}

/** FileEntry, FileChunk*. */
export function fileContent(): StreamRules {
  let opened = false;
  let ended = false;
  return {
    accept(body) {
      if (body.case === "fileEntry" && !opened) opened = true;
      else if (body.case === "fileChunk" && opened && !ended) ended = body.value.eof;
      else throw unexpected(body);
    },
    complete() {
      if (!opened) throw protocolError("the answer lacks fileEntry");
    },
  };
}

/** PortConnected, PortChunk*. */
export function portBytes(): StreamRules {
  let state: "new" | "connected" | "ended" = "new";
  return {
    accept(body) {
      if (body.case === "portConnected" && state === "new") {
        const { windowBytes } = body.value;
        if (windowBytes < 1 || windowBytes > INITIAL_CREDIT_BYTES) throw protocolError("an odd window of a port");
        state = "connected";
      } else if (body.case === "portChunk" && state === "connected") {
        if (body.value.eof) state = "ended";
      } else throw unexpected(body);
    },
    complete() {
      if (state !== "ended") throw protocolError("a port that ends without its end");
    },
  };
}

/**
 * ProcessStarted, (ProcessOutput | ProcessGap)*, ProcessExited; the numbers of output events without a hole.
 * @param firstSequence number of the first event; undefined where it depends on what the log still holds.
 */
export function processEvents(firstSequence?: bigint): StreamRules {
  let state: "new" | "running" | "exited" = "new";
  let next = firstSequence;
  const follow = (first: bigint, last: bigint) => {
    if ((next !== undefined && first !== next) || last < first) throw protocolError("output events out of order");
    next = last + 1n;
  };
  return {
    accept(body) {
      if (state === "new" && body.case === "processStarted") state = "running";
      else if (state === "running" && body.case === "processExited") state = "exited";
      else if (state === "running" && body.case === "processGap") {
        follow(body.value.firstLostSequence, body.value.lastLostSequence);
      } else if (state === "running" && body.case === "processOutput") {
        const { sequence, stream } = body.value;
        follow(sequence, sequence);
        if (stream !== OutputStream.STDOUT && stream !== OutputStream.STDERR) {
          throw protocolError("output of an unknown stream");
        }
      } else throw unexpected(body);
    },
    complete() {
      if (state !== "exited") throw protocolError("the answer lacks processExited");
    },
  };
}

function unexpected(body: FrameBody): TorporError {
  return protocolError(`unexpected ${body.case ?? "empty frame"}`);
}
