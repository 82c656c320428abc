import { asTorporError, type ErrorCode, TorporError } from "@torpor/errors";
import type { AttachProcessResponse, ExecStreamResponse, ProcessExited } from "@torpor/proto/torpor";

/** A stream of a process's events, from ExecStream or AttachProcess. */
export type ProcessMessages = AsyncIterable<Pick<ExecStreamResponse | AttachProcessResponse, "event">>;

/** How far the output of a process was received: where AttachProcess goes on. */
export interface Position {
  pid: number;
  startedAtUnixMs: bigint;
  afterSequence: bigint;
}

/** What {@linkcode followProcess} follows, and where it goes. */
export interface Following {
  /** The first stream. */
  open(): ProcessMessages;
  /** Another one, behind what was received. */
  attach(position: Position): ProcessMessages;
  /** The process is known: once, before its output. */
  started?(pid: number): void;
  output(stream: "stdout" | "stderr", data: Uint8Array): Promise<void>;
  /** Something that the user should know. */
  notice(text: string): void;
}

/** How following ended. `lost`: output was missing, of which the user was told. */
export type Followed =
  | { kind: "exited"; exited: ProcessExited; lost: boolean }
  | { kind: "paused"; position: Position; lost: boolean };

/** Times between attempts, milliseconds. */
export interface AttachTimes {
  firstDelayMs: number;
  longestDelayMs: number;
  /** Without anything received for so long, the last error is thrown. */
  giveUpMs: number;
}

const TIMES: AttachTimes = { firstDelayMs: 100, longestDelayMs: 2000, giveUpMs: 60_000 };

/** What a service on the way says when it is restarted or cut off; the process itself is not affected by any of these. */
const BROKEN: readonly ErrorCode[] = [
  "unavailable",
  "guest_unreachable",
  "host_unreachable",
  "canceled",
  "rate_limited",
];

/**
 * Follows a process to its exit, or until its sandbox is paused. A stream that breaks is taken up again behind the last
 * output that was received, so that each byte comes once; what the sandbox has meanwhile dropped is told as a notice.
 * @throws TorporError what the first stream failed with before the process was known; later any error that another attempt
 *   does not help against, or the last one when none has helped.
 */
export async function followProcess(following: Following, times = TIMES): Promise<Followed> {
  const reader = new Reader(following);
  let messages = following.open();
  let attempts = 0;
  for (;;) {
    reader.received = false;
    try {
      return await reader.read(messages);
    } catch (thrown) {
      const error = asTorporError(thrown);
      if (!reader.position || !BROKEN.includes(error.code)) throw error;
      if (reader.received) attempts = 0;
      if (attempts === 0) {
        reader.brokenAtMs = performance.now();
        following.notice(`the connection to the sandbox broke (${error.code}); the command goes on, attaching again`);
      } else if (performance.now() - reader.brokenAtMs > times.giveUpMs) throw error;
      const delayMs = Math.min(times.firstDelayMs * 2 ** attempts++, times.longestDelayMs);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      messages = following.attach(reader.position);
    }
  }
}

class Reader {
  position: Position | undefined;
  /** This stream has brought something. */
  received = false;
  brokenAtMs = 0;
  #lost = false;

  constructor(private readonly following: Following) {}

  async read(messages: ProcessMessages): Promise<Followed> {
    for await (const { event } of messages) {
      this.received = true;
      switch (event.case) {
        case "started":
          this.#onStarted(event.value.pid, event.value.startedAtUnixMs);
          break;
        case "output":
          if (event.value.data.case) await this.following.output(event.value.data.case, event.value.data.value);
          this.#advance(event.value.sequence);
          break;
        case "gap":
          this.#lost = true;
          this.following.notice(`output was lost: ${lossText(event.value.lostBytes)}`);
          this.#advance(event.value.lastLostSequence);
          break;
        case "exited":
          return { kind: "exited", exited: event.value, lost: this.#lost };
        case "paused":
          return { kind: "paused", position: this.position!, lost: this.#lost };
      }
    }
    throw new TorporError("unavailable", "the stream ended before the command did");
  }

  #onStarted(pid: number, startedAtUnixMs: bigint): void {
    if (this.position) return this.following.notice("attached again");
    this.position = { pid, startedAtUnixMs, afterSequence: 0n };
    this.following.started?.(pid);
  }

  #advance(sequence: bigint): void {
    if (this.position) this.position.afterSequence = sequence;
  }
}

function lossText(bytes: bigint): string {
  return bytes > 0n ? `${bytes} bytes, which the sandbox no longer keeps` : "the sandbox no longer keeps it";
}
