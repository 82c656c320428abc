import type { EgressLimits } from "./limits.ts";
import type { DomainRules } from "./domain_rules.ts";
import { Refusal, type RefusalReason } from "./refusal.ts";

/** How names are reached; the same for all connections. */
export interface Reach {
  limits: EgressLimits;
  /** All addresses of a name. @throws Refusal `not_resolved`. */
  resolve(name: string): Promise<readonly string[]>;
  /** True for an address that no sandbox may reach. */
  isRefused(address: string): boolean;
  dial(address: string, port: number, signal: AbortSignal): Promise<Deno.TcpConn>;
}

/** Limits what is read from a connection that was refused, so that its answer arrives. */
const LINGER_BYTES = 65_536;
const LINGER_MS = 1000;

/** One connection of a sandbox, and the one that is made for it. */
export class Connection {
  /** What the client asked for, once that is known. */
  name: string | undefined;
  /** ms of `performance.now()`: when a byte last moved. */
  activeAt = performance.now();
  #cutFor: RefusalReason | undefined;
  #upstream: Deno.TcpConn | undefined;
  #closing: ReturnType<typeof setTimeout> | undefined;
  readonly #aborted = new AbortController();

  constructor(
    readonly client: Deno.Conn,
    readonly reach: Reach,
    /** What the sandbox may reach now. */
    private readonly rules: () => DomainRules | undefined,
  ) {}

  /** Ends both sides at once. */
  cut(reason: RefusalReason): void {
    this.#cutFor ??= reason;
    this.#aborted.abort();
    this.close();
  }

  /** Why it was cut, if it was: the errors of whoever used it are a consequence. */
  get cutFor(): RefusalReason | undefined {
    return this.#cutFor;
  }

  /** True once there are two sides: from then on the client hears the server, and no answer of the proxy. */
  get passing(): boolean {
    return this.#upstream !== undefined;
  }

  close(): void {
    clearTimeout(this.#closing);
    for (const side of [this.client, this.#upstream]) closeQuietly(side);
  }

  /** Closes both sides when the client has had time to take what it was sent: what it sends meanwhile would reset it. */
  closeSoon(): void {
    this.#closing ??= setTimeout(() => this.close(), LINGER_MS);
  }

  /** Waits for both directions; when one fails the other ends, too. */
  async both(...directions: Promise<void>[]): Promise<void> {
    let failure: { error: unknown } | undefined;
    await Promise.all(directions.map((direction) =>
      direction.catch((error) => {
        failure ??= { error };
        this.close();
      })
    ));
    if (failure) throw failure.error;
  }

  /** Reads what the client sends. */
  async read(buffer: Uint8Array): Promise<number | null> {
    const count = await this.client.read(buffer);
    this.active();
    return count;
  }

  active(): void {
    this.activeAt = performance.now();
  }

  /**
   * Connects to a name that the client asks for. The address is the proxy's own answer to it, looked at after it was resolved; what
   * the client had resolved, and connected to, plays no part.
   * @throws Refusal `not_allowed`, `not_resolved`, `reserved_address` or `not_connected`.
   */
  async connect(name: string, port: number): Promise<Deno.TcpConn> {
    this.name = name;
    if (!this.rules()?.allows(name)) throw new Refusal("not_allowed");
    const addresses = await this.#resolve(name);
    // One is enough: whoever answers with a private address besides others means to get there.
    if (addresses.some((address) => this.reach.isRefused(address))) throw new Refusal("reserved_address");
    const upstream = await this.#dialAny(addresses, port);
    upstream.setNoDelay(true);
    this.#upstream = upstream;
    // The rules may have changed since they were looked at; then this was cut, without the side that is new.
    if (this.#cutFor) this.close();
    return upstream;
  }

  /** Passes an answer to the client, and its end, and waits a moment for the client to see it: unread input would reset it. */
  async answer(bytes: Uint8Array): Promise<void> {
    const timer = setTimeout(() => closeQuietly(this.client), LINGER_MS);
    try {
      await this.client.write(bytes);
      await this.client.closeWrite();
      const rest = new Uint8Array(4096);
      for (let left = LINGER_BYTES; left > 0;) {
        const count = await this.client.read(rest);
        if (count === null) break;
        left -= count;
      }
    } catch (error) {
      if (!isDisconnection(error)) throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #resolve(name: string): Promise<readonly string[]> {
    const timeout = Promise.withResolvers<never>();
    const timer = setTimeout(() => timeout.reject(new Refusal("not_resolved", "timeout")), this.reach.limits.resolveMs);
    const aborted = () => timeout.reject(new Refusal(this.#cutFor ?? "not_resolved"));
    this.#aborted.signal.addEventListener("abort", aborted, { once: true });
    try {
      return await Promise.race([this.reach.resolve(name), timeout.promise]);
    } finally {
      clearTimeout(timer);
      this.#aborted.signal.removeEventListener("abort", aborted);
    }
  }

  async #dialAny(addresses: readonly string[], port: number): Promise<Deno.TcpConn> {
    const failures: unknown[] = [];
    for (const address of addresses.slice(0, MAX_ADDRESSES)) {
      const timeout = new AbortController();
      const timer = setTimeout(() => timeout.abort(), this.reach.limits.connectMs);
      try {
        return await this.reach.dial(address, port, AbortSignal.any([timeout.signal, this.#aborted.signal]));
      } catch (error) {
        failures.push(error);
        if (this.#cutFor) break;
      } finally {
        clearTimeout(timer);
      }
    }
    throw new Refusal("not_connected", undefined, { cause: new AggregateError(failures) });
  }
}

/** Of one name: a client's patience ends before a longer list. */
const MAX_ADDRESSES = 3;

function closeQuietly(side: Deno.Conn | undefined): void {
  try {
    side?.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

/** True for what reading and writing throw when one of the peers has gone, or the connection was closed here. */
export function isDisconnection(error: unknown): boolean {
  return DISCONNECTIONS.some((kind) => error instanceof kind);
}

const DISCONNECTIONS = [
  Deno.errors.BadResource,
  Deno.errors.BrokenPipe,
  Deno.errors.ConnectionAborted,
  Deno.errors.ConnectionReset,
  Deno.errors.Interrupted,
  Deno.errors.NotConnected,
  Deno.errors.TimedOut,
  Deno.errors.UnexpectedEof,
];
