import { type Call, callSchema, type Message } from "./control_messages.ts";
import { isDisconnection } from "./connection.ts";
import { LineWriter, readLines } from "./lines.ts";
import type { Proxy } from "./proxy.ts";
import { RefusalLog } from "./refusal_log.ts";
import type { Outcome } from "./slot_proxy.ts";

const OUTCOMES_INTERVAL_MS = 1000;
/** A process that no agent has talked to for so long ends when it is not needed. */
const ABANDONED_MS = 60_000;

interface Conversation {
  connection: Deno.Conn;
  writer: LineWriter;
}

/** The proxy's side of the conversation with the agent. There is one agent; a new one takes the place of the one before. */
export class ControlServer {
  readonly #refusals = new RefusalLog();
  /** Not told yet. */
  #outcomes: Record<string, number> = {};
  #current: Conversation | undefined;
  #agentLeftAt = performance.now();

  /** @param isNeeded false when no sandbox can be there that the proxy serves. */
  constructor(
    private readonly fingerprint: string,
    private readonly proxy: () => Proxy,
    private readonly isNeeded: () => boolean,
    private readonly abandonedMs = ABANDONED_MS,
  ) {}

  /** To be called with each connection that has ended. */
  report(outcome: Outcome): void {
    this.#outcomes[outcome.outcome] = (this.#outcomes[outcome.outcome] ?? 0) + 1;
    const refused = this.#refusals.take(outcome, performance.now());
    if (refused) this.#tell(refused);
  }

  /** Serves agents until one of them says `end`, or none comes. */
  async serve(listener: Deno.Listener): Promise<void> {
    const ended = Promise.withResolvers<void>();
    const timer = setInterval(() => {
      this.#tellOutcomes();
      if (this.#isAbandoned()) ended.resolve();
    }, OUTCOMES_INTERVAL_MS);
    const accepting = (async () => {
      for await (const connection of listener) {
        this.#current?.connection.close();
        const current = { connection, writer: new LineWriter(connection) };
        this.#current = current;
        this.#converse(current, ended.resolve).catch(ended.reject);
      }
    })();
    accepting.catch(ended.reject);
    try {
      await ended.promise;
    } finally {
      clearInterval(timer);
      listener.close();
      this.#current?.connection.close();
    }
  }

  async #converse(current: Conversation, end: () => void): Promise<void> {
    const { connection, writer } = current;
    try {
      const slotAddresses = this.proxy().slotAddresses;
      await writer.write({ message: "hello", fingerprint: this.fingerprint, slotAddresses } satisfies Message);
      for await (const value of readLines(connection)) {
        const call = callSchema.parse(value);
        await writer.write(await this.#carryOut(call));
        if (call.call === "end") return end();
      }
    } catch (error) {
      // An agent that was killed, or one that has taken its place.
      if (!isDisconnection(error)) throw error;
    } finally {
      if (this.#current === current) {
        this.#current = undefined;
        this.#agentLeftAt = performance.now();
        connection.close();
      }
    }
  }

  async #carryOut(call: Call): Promise<Message> {
    const { id } = call;
    const proxy = this.proxy();
    try {
      if (call.call === "set_rules") await proxy.setRules(call.slot, call.domains);
      else if (call.call === "retain") await proxy.retain(new Set(call.slotAddresses));
      else if (call.call === "stats") {
        const { slotAddresses, connections, outcomes } = proxy;
        return { message: "stats", id, slots: slotAddresses.length, connections, outcomes };
      }
      return { message: "done", id };
    } catch (error) {
      return { message: "failed", id, error: String(error).slice(0, 2000) };
    }
  }

  #tellOutcomes(): void {
    if (!this.#current || Object.keys(this.#outcomes).length === 0) return;
    this.#tell({ message: "outcomes", outcomes: this.#outcomes });
    this.#outcomes = {};
  }

  #tell(message: Message): void {
    // Without an agent nobody listens; that one is going is seen where its calls are read.
    this.#current?.writer.write(message).catch(() => {});
  }

  #isAbandoned(): boolean {
    return !this.#current && performance.now() - this.#agentLeftAt > this.abandonedMs && !this.isNeeded();
  }
}
