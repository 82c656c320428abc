import { Connection, isDisconnection, type Reach } from "./connection.ts";
import type { DomainRules } from "./domain_rules.ts";
import { Refusal, refusalAlert, type RefusalReason, refusalResponse } from "./refusal.ts";
import { serveHttp } from "./serve_http.ts";
import { serveTls } from "./serve_tls.ts";
import type { EgressSlot } from "./types.ts";

/** So long nothing is accepted after the machine has refused to (EMFILE, ENOBUFS). */
const ACCEPT_PAUSE_MS = 100;

const PROTOCOLS = {
  http: { serve: serveHttp, answer: refusalResponse },
  tls: { serve: serveTls, answer: refusalAlert },
} as const;

type Protocol = keyof typeof PROTOCOLS;

/** How a connection went. */
export interface Outcome {
  slotAddress: string;
  protocol: Protocol;
  outcome: "passed" | RefusalReason;
  /** What the client asked for; a domain name, or undefined. */
  name: string | undefined;
  error: unknown;
}

/** What the connections of all slots share. */
export interface Shared extends Reach {
  ports: { http: number; tls: number };
  /** True when another connection may be opened. */
  hasRoom(): boolean;
  report(outcome: Outcome): void;
}

/** The proxied connections of one slot: its listeners, its rules, and what is open. */
export class SlotProxy implements AsyncDisposable {
  #rules: DomainRules;
  readonly #listeners: Deno.Listener[];
  readonly #connections = new Set<Connection>();
  /** Accepting, and serving what was accepted. */
  readonly #work = new Set<Promise<void>>();
  #closed = false;

  private constructor(readonly slot: EgressSlot, rules: DomainRules, private readonly shared: Shared) {
    this.#rules = rules;
    this.#listeners = [];
  }

  /**
   * Listens on the slot's host address. Nothing else reaches these listeners, and a sandbox that does not stop to connect fills its
   * own queue only.
   * @throws Deno.errors.AddrNotAvailable when the slot is not there.
   */
  static open(slot: EgressSlot, rules: DomainRules, shared: Shared): SlotProxy {
    const proxy = new SlotProxy(slot, rules, shared);
    try {
      for (const protocol of ["http", "tls"] as const) {
        proxy.#listeners.push(Deno.listen({ hostname: slot.hostAddress, port: shared.ports[protocol] }));
      }
    } catch (error) {
      proxy.#stopListening();
      throw error;
    }
    proxy.#track(proxy.#accept(proxy.#listeners[0]!, "http"), "http");
    proxy.#track(proxy.#accept(proxy.#listeners[1]!, "tls"), "tls");
    return proxy;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Replaces the rules, and cuts what they do not allow any more. */
  setRules(rules: DomainRules): void {
    this.#rules = rules;
    for (const connection of this.#connections) {
      if (connection.name !== undefined && !rules.allows(connection.name)) connection.cut("rules_changed");
    }
  }

  /** Cuts what has not moved a byte since `time` (ms of `performance.now()`). */
  cutIdleSince(time: number): void {
    for (const connection of this.#connections) {
      if (connection.activeAt < time) connection.cut("idle");
    }
  }

  /** Stops listening and cuts all connections; waits for their ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopListening();
    for (const connection of this.#connections) connection.cut("rules_changed");
    await Promise.all(this.#work);
  }

  #stopListening(): void {
    this.#closed = true;
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  async #accept(listener: Deno.Listener, protocol: Protocol): Promise<void> {
    while (!this.#closed) {
      try {
        this.#track(this.#handle(await listener.accept(), protocol), protocol);
      } catch (error) {
        if (this.#closed) return;
        this.shared.report(this.#outcome(protocol, "internal", undefined, error));
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE_MS));
      }
    }
  }

  #track(work: Promise<void>, protocol: Protocol): void {
    // What nobody expected of one connection must not end the process, and so all others.
    const safe = work.catch((error) => this.shared.report(this.#outcome(protocol, "internal", undefined, error)))
      .finally(() => this.#work.delete(safe));
    this.#work.add(safe);
  }

  async #handle(client: Deno.Conn, protocol: Protocol): Promise<void> {
    const connection = new Connection(client, this.shared, () => this.#rules);
    const refused = this.#refusedAtOnce(client);
    this.#connections.add(connection);
    try {
      if (refused) throw new Refusal(refused);
      await serveWithin(this.shared.limits.headMs, (named) => PROTOCOLS[protocol].serve(connection, named));
      this.shared.report(this.#outcome(protocol, connection.cutFor ?? "passed", connection.name, undefined));
    } catch (error) {
      const reason = connection.cutFor ?? reasonOf(error, connection);
      this.shared.report(this.#outcome(protocol, reason, connection.name, error));
      const silent = reason === "passed" || connection.cutFor || connection.passing || refused ||
        reason === "abandoned";
      if (!silent) await connection.answer(PROTOCOLS[protocol].answer(reason));
    } finally {
      connection.close();
      this.#connections.delete(connection);
    }
  }

  #refusedAtOnce(client: Deno.Conn): RefusalReason | undefined {
    const { hostname } = client.remoteAddr as Deno.NetAddr;
    if (hostname !== this.slot.slotAddress) return "unknown_source";
    if (this.#connections.size >= this.shared.limits.connectionsPerSlot) return "slot_limit";
    return this.shared.hasRoom() ? undefined : "host_limit";
  }

  #outcome(protocol: Protocol, outcome: Outcome["outcome"], name: string | undefined, error: unknown): Outcome {
    return { slotAddress: this.slot.slotAddress, protocol, outcome, name, error };
  }
}

/** Serves a connection whose client must have said within `ms` what it wants. */
async function serveWithin(ms: number, serve: (named: () => void) => Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Refusal("head_timeout")), ms);
  const serving = serve(() => clearTimeout(timer));
  // After the time limit it ends by the close of the connection; the time limit is what is told.
  serving.catch(() => {});
  try {
    await Promise.race([serving, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function reasonOf(error: unknown, connection: Connection): Outcome["outcome"] {
  if (error instanceof Refusal) return error.reason;
  if (!isDisconnection(error)) return "internal";
  return connection.passing ? "passed" : "abandoned";
}
