/**
 * Learning of the end of processes: one native thread waits for all of them and writes records to a socket that is read here, so
 * that waiting takes none of Deno's 32 blocking threads.
 *
 * The thread exists while at least one process is watched. When the last one has ended, thread and socket are closed before its
 * promise resolves: nothing is left over for a test's leak check.
 * @module
 */
import { Buffer } from "node:buffer";
import { Socket } from "node:net";
import { check } from "./errors.ts";
import { native } from "./library.ts";

/** How a process ended. Both are null when it was not this process's child: then only that it ended is known. */
export interface ExitStatus {
  readonly code: number | null;
  readonly signal: number | null;
}

const RECORD_BYTES = 16;

class Watcher {
  readonly #handle: Deno.PointerObject;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, (status: ExitStatus) => void>();
  #nextToken = 1;
  #partial: Buffer = Buffer.alloc(0);

  constructor() {
    const socket = new Int32Array(1);
    const handle = native().torpor_watcher_start(socket);
    if (!handle) check("watchProcess", socket[0]!);
    this.#handle = handle!;
    this.#socket = new Socket({ fd: socket[0]!, readable: true, writable: false });
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
  }

  add(pidfd: number, settle: (status: ExitStatus) => void): number {
    const token = this.#nextToken++;
    check("watchProcess", native().torpor_watcher_add(this.#handle, pidfd, BigInt(token)));
    this.#waiting.set(token, settle);
    return token;
  }

  async forget(token: number): Promise<void> {
    if (this.#waiting.delete(token) && this.#waiting.size === 0) await this.#close();
  }

  async #receive(chunk: Buffer): Promise<void> {
    this.#partial = Buffer.concat([this.#partial, chunk]);
    const settled: (() => void)[] = [];
    while (this.#partial.length >= RECORD_BYTES) {
      const record = this.#partial.subarray(0, RECORD_BYTES);
      this.#partial = this.#partial.subarray(RECORD_BYTES);
      const token = Number(record.readBigUInt64LE(0));
      const code = record.readInt32LE(8), signal = record.readInt32LE(12);
      const settle = this.#waiting.get(token);
      if (!this.#waiting.delete(token)) continue;
      settled.push(() => settle!({ code: code < 0 ? null : code, signal: signal < 0 ? null : signal }));
    }
    if (settled.length && this.#waiting.size === 0) await this.#close();
    for (const settle of settled) settle();
  }

  async #close(): Promise<void> {
    if (current === this) current = undefined;
    native().torpor_watcher_stop(this.#handle);
    const closed = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
    this.#socket.destroy();
    await closed;
  }
}

let current: Watcher | undefined;

/** One watched process. */
export interface Watch {
  readonly exited: Promise<ExitStatus>;
  /** Stops watching: `exited` stays pending for ever. Resolves when nothing of it is left. */
  forget(): Promise<void>;
}

/** Watches the process behind `pidfd`, which stays the caller's and may be closed at any time. */
export function watchProcess(pidfd: number): Watch {
  const watcher = current ??= new Watcher();
  const { promise, resolve } = Promise.withResolvers<ExitStatus>();
  const token = watcher.add(pidfd, resolve);
  return { exited: promise, forget: () => watcher.forget(token) };
}
