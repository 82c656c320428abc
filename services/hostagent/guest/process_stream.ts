import { OutputStream, type ProcessStarted } from "@torpor/proto/guest";
import type { StreamEvent } from "./event_queue.ts";
import { protocolError } from "./protocol_error.ts";
import type { GuestStream } from "./stream.ts";

/** What happens to a process, in order. */
export type ProcessEvent =
  | {
    type: "output";
    stream: "stdout" | "stderr";
    data: Uint8Array;
    /** Number of the last output event of the process that is in `data`; where an attach would go on. */
    sequence: bigint;
  }
  /** Output that left the guest's log before this reader took it. */
  | { type: "gap"; firstLostSequence: bigint; lastLostSequence: bigint; lostBytes: bigint }
  /** The last event. A process that a signal ended has `signal`, else `exitCode` counts. */
  | { type: "exited"; exitCode: number; signal: number; timedOut: boolean };

/**
 * A process as its starter or an attached reader sees it. Iterate it once; a reader that holds the process back never gets
 * a gap while it is there. Leaving the loop detaches: the process goes on, its output stays in the guest's log.
 */
export class ProcessStream implements AsyncIterable<ProcessEvent> {
  /** Number of the process in the guest. */
  readonly pid: number;
  /** When it was started, by the guest's clock, milliseconds; 0n: its agent does not tell. */
  readonly startedUnixMs: bigint;
  readonly #stream: GuestStream;

  private constructor(stream: GuestStream, { pid, startedUnixMs }: ProcessStarted) {
    this.#stream = stream;
    this.pid = pid;
    this.startedUnixMs = startedUnixMs;
  }

  /** Waits until the process has started. @throws TorporError the reason why it could not. */
  static async open(stream: GuestStream): Promise<ProcessStream> {
    const event = await stream.next();
    if (event?.kind === "body" && event.body.case === "processStarted") {
      return new ProcessStream(stream, event.body.value);
    }
    throw protocolError("a process without processStarted");
  }

  /**
   * Events until the exit. The loop ends only behind `exited`; anything else that ends the stream is thrown.
   * @throws TorporError `guest_unreachable` when the channel closes, `sandbox_paused`.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ProcessEvent, void, undefined> {
    try {
      for (let event = await this.#stream.next(); event; event = await this.#stream.next()) {
        const processed = processEvent(event);
        // The exit counts only with the end behind it; taking both leaves nothing to cancel.
        if (processed.type === "exited") await this.#stream.next();
        yield processed;
      }
    } finally {
      this.cancel();
    }
  }

  /**
   * Writes to stdin (started with `stdin: true`); waits while the process does not read.
   * @returns when the bytes are on their way; a process that has closed its stdin loses them silently, as a pipe's
   *   reader may.
   * @throws TorporError `conflict` when the process has ended, `guest_unreachable`.
   */
  writeStdin(data: Uint8Array): Promise<void> {
    return this.#stream.sendData("stdin", data, false);
  }

  /** Closes stdin behind what was written. @throws as {@linkcode writeStdin}. */
  closeStdin(): Promise<void> {
    return this.#stream.sendData("stdin", new Uint8Array(0), true);
  }

  /** Detaches: no more events come, the process goes on. */
  cancel(): void {
    this.#stream.cancel();
  }
}

function processEvent(event: StreamEvent): ProcessEvent {
  if (event.kind === "data") {
    const stream = event.channel === OutputStream.STDOUT ? "stdout" : "stderr";
    return { type: "output", stream, data: event.data, sequence: event.sequence };
  }
  const { body } = event;
  if (body.case === "processGap") {
    const { firstLostSequence, lastLostSequence, lostBytes } = body.value;
    return { type: "gap", firstLostSequence, lastLostSequence, lostBytes };
  }
  if (body.case === "processExited") {
    const { exitCode, signal, timedOut } = body.value;
    return { type: "exited", exitCode, signal, timedOut };
  }
  throw protocolError(`unexpected ${body.case}`);
}
