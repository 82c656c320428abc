import { TorporError } from "@torpor/errors";
import { count, log } from "@torpor/telemetry";
import { isDisconnection } from "./connection.ts";
import { type CallBody, type Message, messageSchema } from "./control_messages.ts";
import { LineWriter, readLines } from "./lines.ts";

/** Cutting connections and opening listeners takes a millisecond. */
const CALL_TIMEOUT_MS = 5000;

type Reply = Extract<Message, { id: number }>;
type Hello = Extract<Message, { message: "hello" }>;

/** The agent's side of the conversation with the proxy's process. */
export class ControlClient implements AsyncDisposable {
  readonly #waiting = new Map<number, PromiseWithResolvers<Reply>>();
  readonly #writer: LineWriter;
  readonly #reading: Promise<void>;
  readonly #hello = Promise.withResolvers<Hello>();
  #nextId = 1;
  #closed = false;

  private constructor(private readonly connection: Deno.Conn) {
    this.#writer = new LineWriter(connection);
    this.#hello.promise.catch(() => {});
    this.#reading = this.#read();
  }

  /**
   * Connects to a process.
   * @throws Deno.errors.NotFound, Deno.errors.ConnectionRefused when none listens.
   */
  static async connect(socket: string): Promise<ControlClient> {
    return new ControlClient(await Deno.connect({ transport: "unix", path: socket }));
  }

  /** What the process says first. @throws TorporError `unavailable`. */
  hello(): Promise<Hello> {
    return within(this.#hello.promise);
  }

  /** Resolves when the conversation has ended. */
  get ended(): Promise<void> {
    return this.#reading;
  }

  /**
   * @returns the process's reply, which may be that it failed.
   * @throws TorporError `unavailable` when there is none.
   */
  async call(body: CallBody): Promise<Reply> {
    if (this.#closed) throw unavailable();
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<Reply>();
    this.#waiting.set(id, waiting);
    try {
      return await within(Promise.race([waiting.promise, this.#write({ ...body, id }, waiting.promise)]));
    } finally {
      this.#waiting.delete(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) this.connection.close();
    await this.#reading;
  }

  /** A write that fails is the call's end; one that goes well leaves it to the reply. */
  async #write(value: unknown, reply: Promise<Reply>): Promise<Reply> {
    try {
      await this.#writer.write(value);
    } catch (cause) {
      throw unavailable(cause);
    }
    return await reply;
  }

  async #read(): Promise<void> {
    let cause: unknown;
    try {
      for await (const value of readLines(this.connection)) this.#take(messageSchema.parse(value));
    } catch (error) {
      cause = error;
      if (!isDisconnection(error)) log("error", "egress_control_failed", {}, error);
    } finally {
      this.#end(cause);
    }
  }

  #end(cause: unknown): void {
    this.#closed = true;
    try {
      this.connection.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    this.#hello.reject(unavailable(cause));
    for (const { reject } of this.#waiting.values()) reject(unavailable(cause));
  }

  #take(message: Message): void {
    switch (message.message) {
      case "hello":
        return this.#hello.resolve(message);
      case "refused": {
        const { slotAddress, protocol, reason, name, detail, untold } = message;
        return log("warn", "egress_refused", { slot: slotAddress, protocol, reason, name, detail, untold });
      }
      case "outcomes":
        for (const [outcome, value] of Object.entries(message.outcomes)) {
          count("torpor.egress.connections", value, { "torpor.egress.outcome": outcome });
        }
        return;
      default:
        this.#waiting.get(message.id)?.resolve(message);
    }
  }
}

async function within<T>(promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(unavailable(new Error("timeout"))), CALL_TIMEOUT_MS);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function unavailable(cause?: unknown): TorporError {
  return new TorporError("unavailable", "the egress proxy does not answer", { cause });
}
