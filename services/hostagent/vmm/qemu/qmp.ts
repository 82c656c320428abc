import { Socket } from "node:net";
import { scaledTimeoutMs } from "@torpor/config";
import { type Descriptor, NativeError, sendDescriptors, unixConnect } from "@torpor/ffi";
import { TorporError } from "@torpor/errors";
import { delay } from "../../host/delay.ts";

/** A monitor answers in milliseconds; one that takes this long hangs, as a VMM does whose pager hangs. */
const DEFAULT_TIMEOUT_MS = scaledTimeoutMs(10_000);
/** A VMM that is just starting answers after 30 to 45 ms; whoever connects knows how long to wait. */
const GREETING_TIMEOUT_MS = scaledTimeoutMs(120_000);
/** Longer lines than this are no QMP. */
const MAX_LINE_BYTES = 1 << 20;
/** Between two tries to connect to a monitor that is just starting (30 to 45 ms measured). */
const CONNECT_RETRY_MS = 2;

/** An asynchronous message of the VMM. */
export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

interface Pending {
  command: string;
  settle: PromiseWithResolvers<unknown>;
}

interface Listener {
  matches: (event: QmpEvent) => boolean;
  settle: PromiseWithResolvers<QmpEvent>;
}

/**
 * A client of QEMU's monitor (QMP). Commands are answered in order. When the connection ends, every call in flight and
 * every later one fails with `vm_gone`.
 */
export class Qmp implements AsyncDisposable {
  readonly #descriptor: Descriptor;
  readonly #socket: Socket;
  readonly #closed = Promise.withResolvers<void>();
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<Listener>();
  readonly #followers: ((event: QmpEvent) => void)[] = [];
  #ended = false;
  #nextId = 1;
  #partial = "";

  private constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
    // The socket closes its own descriptor; the other one sends descriptors along.
    this.#socket = new Socket({ fd: descriptor.dup().release(), readable: true, writable: true });
    this.#socket.setEncoding("utf8");
    this.#socket.on("data", (text: string) => this.#receive(text));
    this.#socket.on("error", () => this.#end());
    this.#socket.on("close", () => this.#end());
  }

  /**
   * Connects to a monitor that may still be starting, and negotiates.
   * @throws the signal's reason when it aborts first; TorporError `vm_gone`, `deadline_exceeded`.
   */
  static async connect(path: string, signal: AbortSignal): Promise<Qmp> {
    const qmp = new Qmp(await connectWhenReady(path, signal));
    const giveUp = () => void qmp.#socket.destroy();
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      await qmp.execute("qmp_capabilities", {}, { timeoutMs: GREETING_TIMEOUT_MS });
      return qmp;
    } catch (error) {
      await qmp[Symbol.asyncDispose]();
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  /**
   * Runs a command and returns its result.
   * @param options `descriptor` is sent along (for `getfd`) and stays the caller's.
   * @throws TorporError `internal` when QEMU refuses, `deadline_exceeded`, `vm_gone`.
   */
  async execute(
    command: string,
    args: Record<string, unknown> = {},
    options: { timeoutMs?: number; descriptor?: number } = {},
  ): Promise<unknown> {
    if (this.#ended) throw gone(command);
    const id = this.#nextId++;
    const settle = Promise.withResolvers<unknown>();
    this.#pending.set(id, { command, settle });
    const line = JSON.stringify({ execute: command, arguments: args, id }) + "\n";
    try {
      this.#send(line, options.descriptor);
      return await withTimeout(settle.promise, command, options.timeoutMs);
    } finally {
      this.#pending.delete(id);
    }
  }

  /**
   * Waits for an event. Call it before the command that causes the event, and await it afterwards.
   * @throws TorporError `deadline_exceeded`, `vm_gone`.
   */
  async event(matches: (event: QmpEvent) => boolean, what: string, timeoutMs?: number): Promise<QmpEvent> {
    if (this.#ended) throw gone(what);
    const listener: Listener = { matches, settle: Promise.withResolvers() };
    this.#listeners.add(listener);
    try {
      return await withTimeout(listener.settle.promise, what, timeoutMs);
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Calls `follower` with each event from now on, in the order in which the monitor tells them and its answers. */
  follow(follower: (event: QmpEvent) => void): void {
    this.#followers.push(follower);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.#closed.promise;
  }

  #send(line: string, descriptor: number | undefined): void {
    // Both go to the same socket; a command with a descriptor is only ever sent while nothing is buffered.
    if (descriptor === undefined) this.#socket.write(line);
    else sendDescriptors(this.#descriptor.fd, new TextEncoder().encode(line), [descriptor]);
  }

  #receive(text: string): void {
    const lines = (this.#partial + text).split("\n");
    this.#partial = lines.pop()!;
    if (this.#partial.length > MAX_LINE_BYTES) return void this.#socket.destroy();
    for (const line of lines) this.#handle(line);
  }

  #handle(line: string): void {
    let message: Record<string, unknown>;
    try {
      message = JSON.parse(line);
    } catch {
      // Half a line of an earlier connection's answer; whoever waits for it is gone.
      return;
    }
    if (typeof message.event === "string") {
      const event = { event: message.event, data: (message.data ?? {}) as Record<string, unknown> };
      for (const follower of this.#followers) follower(event);
      for (const listener of this.#listeners) if (listener.matches(event)) listener.settle.resolve(event);
      return;
    }
    const pending = this.#pending.get(message.id as number);
    if (!pending) return;
    if ("error" in message) pending.settle.reject(refused(pending.command, message.error));
    else pending.settle.resolve(message.return);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#descriptor.close();
    for (const { command, settle } of this.#pending.values()) settle.reject(gone(command));
    for (const { settle } of this.#listeners) settle.reject(gone("an event"));
    this.#closed.resolve();
  }
}

async function connectWhenReady(path: string, signal: AbortSignal): Promise<Descriptor> {
  while (true) {
    signal.throwIfAborted();
    try {
      return unixConnect(path);
    } catch (error) {
      const starting = error instanceof NativeError &&
        (error.code === "native_enoent" || error.code === "native_econnrefused");
      if (!starting) throw error;
    }
    await delay(CONNECT_RETRY_MS, signal);
  }
}

async function withTimeout<T>(promise: Promise<T>, what: string, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<T> {
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    timeout.reject(new TorporError("deadline_exceeded", `the VM did not answer ${what} within ${timeoutMs} ms`));
  }, timeoutMs);
  try {
    return await Promise.race([promise, timeout.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function gone(what: string): TorporError {
  return new TorporError("vm_gone", `the VM ended before it answered ${what}`);
}

function refused(command: string, error: unknown): TorporError {
  const { class: kind, desc } = error as { class?: string; desc?: string };
  return new TorporError("internal", `the VMM refused ${command}`, { cause: new Error(`${kind}: ${desc}`) });
}
