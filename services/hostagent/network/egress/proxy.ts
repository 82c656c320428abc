import { DomainRules } from "./domain_rules.ts";
import type { EgressLimits } from "./limits.ts";
import { type Outcome, type Shared, SlotProxy } from "./slot_proxy.ts";
import type { EgressSlot } from "./types.ts";

/** How often idle connections are looked for, as a part of the time they may be idle. */
const IDLE_LOOKS = 8;

/** What a proxy needs from outside. */
export interface ProxyOptions {
  limits: EgressLimits;
  ports: { http: number; tls: number };
  resolve: Shared["resolve"];
  isRefused: Shared["isRefused"];
  dial: Shared["dial"];
  /** Is told of each connection that has ended. */
  report(outcome: Outcome): void;
}

/** All proxied connections of a host. */
export class Proxy implements AsyncDisposable {
  readonly #slots = new Map<string, SlotProxy>();
  readonly #shared: Shared;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #outcomes: Record<string, number> = {};

  constructor(private readonly options: ProxyOptions) {
    this.#shared = {
      ...options,
      hasRoom: () => this.connections < options.limits.connections,
      report: (outcome) => {
        this.#outcomes[outcome.outcome] = (this.#outcomes[outcome.outcome] ?? 0) + 1;
        options.report(outcome);
      },
    };
    const { idleMs } = options.limits;
    this.#timer = setInterval(() => {
      for (const slot of this.#slots.values()) slot.cutIdleSince(performance.now() - idleMs);
    }, idleMs / IDLE_LOOKS);
  }

  get connections(): number {
    return this.#slots.values().reduce((sum, slot) => sum + slot.connections, 0);
  }

  /** Slots that have rules. */
  get slotAddresses(): string[] {
    return [...this.#slots.keys()];
  }

  /** Where it listens. */
  get hostAddresses(): string[] {
    return [...this.#slots.values()].map(({ slot }) => slot.hostAddress);
  }

  /** Connections that have ended, by how they went. */
  get outcomes(): Readonly<Record<string, number>> {
    return this.#outcomes;
  }

  /**
   * Sets what a slot may reach by name; it is in force when the call returns.
   * @param domains none: nothing is proxied for the slot.
   * @throws RangeError for what is no domain, Deno.errors.AddrNotAvailable when the slot's host address is not there; then nothing
   * is proxied for the slot.
   */
  async setRules(slot: EgressSlot, domains: readonly string[]): Promise<void> {
    const known = this.#slots.get(slot.slotAddress);
    try {
      const rules = new DomainRules(domains);
      if (known && domains.length > 0 && known.slot.hostAddress === slot.hostAddress) return known.setRules(rules);
      await this.#remove(slot.slotAddress);
      if (domains.length > 0) this.#slots.set(slot.slotAddress, SlotProxy.open(slot, rules, this.#shared));
    } catch (error) {
      await this.#remove(slot.slotAddress);
      throw error;
    }
  }

  /** Forgets all slots but these. */
  async retain(slotAddresses: ReadonlySet<string>): Promise<void> {
    const gone = [...this.#slots.keys()].filter((address) => !slotAddresses.has(address));
    await Promise.all(gone.map((address) => this.#remove(address)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.retain(new Set());
  }

  async #remove(slotAddress: string): Promise<void> {
    const known = this.#slots.get(slotAddress);
    if (!known) return;
    this.#slots.delete(slotAddress);
    await known[Symbol.asyncDispose]();
  }
}
