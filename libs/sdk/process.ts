import { TorporError } from "@torpor/errors";
import type { Connection } from "./connection.ts";
import { type Followed, followProcess, type Position, type ProcessMessages } from "./follow_process.ts";

/** Output of a process as it comes. */
export interface ProcessOutput {
  stream: "stdout" | "stderr";
  data: Uint8Array;
}

/** How a process ended. */
export interface ProcessResult {
  /** 128 + signal when a signal ended it. */
  exitCode: number;
  /** Number of the signal that ended it, else 0. */
  signal: number;
  /** It was killed at the timeout of its start. */
  timedOut: boolean;
}

/** Where output is taken up again. */
export interface AttachOptions {
  /** The last event that was received. Default 0n: from the oldest that the sandbox keeps. */
  afterSequence?: bigint;
  /** When it was started, as `startedAtUnixMs` told: numbers of processes are given again. Default: not compared. */
  startedAtUnixMs?: bigint;
}

/**
 * A process in a sandbox: iterate over its output, once, then (or instead) wait for its end. Broken connections are taken up
 * again behind the last output that was received, so each byte comes once. It waits for a slow reader. Whoever leaves the loop
 * lets it go on.
 */
export class Process implements AsyncIterable<ProcessOutput> {
  /** Resolves when the process is known. @throws TorporError why it could not be started. */
  readonly started: Promise<number>;
  /** What followers were told: that output was lost, that a connection broke. */
  readonly notices: string[] = [];
  readonly #connection: Connection;
  readonly #sandboxId: string;
  readonly #output = new TransformStream<ProcessOutput, ProcessOutput>();
  readonly #followed: Promise<Followed>;
  #isRead = false;

  constructor(connection: Connection, sandboxId: string, open: () => ProcessMessages) {
    this.#connection = connection;
    this.#sandboxId = sandboxId;
    // Not Promise.withResolvers: Node 20 has none.
    let onStarted: (pid: number) => void, onFailed: (thrown: unknown) => void;
    this.started = new Promise((resolve, reject) => [onStarted, onFailed] = [resolve, reject]);
    const writer = this.#output.writable.getWriter();
    let isWanted = true;
    // A reader that has left lets output pass by.
    writer.closed.catch(() => isWanted = false);
    this.#followed = followProcess({
      open,
      attach: (position: Position) => connection.sandboxes.attachProcess({ sandboxId, ...position, holdBack: true }),
      started: (pid) => onStarted(pid),
      output: async (stream, data) => {
        if (!isWanted) return;
        try {
          await writer.write({ stream, data });
        } catch {
          isWanted = false;
        }
      },
      notice: (text) => void this.notices.push(text),
    });
    this.#followed.then(() => writer.close(), (thrown) => (onFailed(thrown), writer.abort(thrown))).catch(
      () => {},
    );
    // Whoever does not ask is not disturbed by it.
    this.started.catch(() => {});
  }

  /** @throws TorporError what ended the stream before the process. */
  [Symbol.asyncIterator](): AsyncIterator<ProcessOutput> {
    if (this.#isRead) throw new TorporError("conflict", "the output of this process is being read already");
    this.#isRead = true;
    return this.#output.readable.values();
  }

  /**
   * How it ended. Output that nobody reads is dropped.
   * @throws TorporError `sandbox_paused`: it sleeps with its sandbox; after a resume, `attach` goes on.
   */
  async wait(): Promise<ProcessResult> {
    if (!this.#isRead) { for await (const _ of this) continue; }
    const followed = await this.#followed;
    if (followed.kind === "paused") {
      throw new TorporError("sandbox_paused", "the sandbox was paused, and the process with it", {
        hint: "resume the sandbox, then attach to the process",
      });
    }
    const { exitCode, signal, timedOut } = followed.exited;
    return { exitCode, signal, timedOut };
  }

  /** Writes to stdin (started with `stdin: true`), text as UTF-8. @throws TorporError `conflict` when it has ended. */
  async write(data: Uint8Array | string): Promise<void> {
    await this.#send(typeof data === "string" ? new TextEncoder().encode(data) : data, false);
  }

  /** Closes stdin. */
  async closeInput(): Promise<void> {
    await this.#send(new Uint8Array(0), true);
  }

  /** Sends a signal by its number, default 15 (SIGTERM). @throws TorporError `process_not_found`. */
  async kill(signal = 15): Promise<void> {
    const pid = await this.started;
    await this.#connection.sandboxes.signalProcess({ sandboxId: this.#sandboxId, pid, signal });
  }

  async #send(data: Uint8Array, eof: boolean): Promise<void> {
    const pid = await this.started;
    await this.#connection.sandboxes.sendProcessInput({ sandboxId: this.#sandboxId, pid, data, eof });
  }
}
