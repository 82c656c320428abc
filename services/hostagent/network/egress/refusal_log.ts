import type { Message } from "./control_messages.ts";
import { Refusal } from "./refusal.ts";
import type { Outcome } from "./slot_proxy.ts";

/** Refusals of one slot that are told at once, and how often one more may be. */
const BURST = 10;
const REFILL_MS = 6000;
const MAX_SLOTS = 4096;

type Refused = Extract<Message, { message: "refused" }>;

interface Budget {
  left: number;
  /** ms of `performance.now()`. */
  at: number;
  untold: number;
}

/** Chooses which refusals are told: a guest that does not stop asking must not fill the host's log. */
export class RefusalLog {
  readonly #budgets = new Map<string, Budget>();

  /** @param now ms. @returns what to tell about a connection, if anything. */
  take({ slotAddress, protocol, outcome, name, error }: Outcome, now: number): Refused | undefined {
    // What has no news for an operator: it went well, or its client left, or the agent itself changed the rules.
    if (outcome === "passed" || outcome === "abandoned" || outcome === "rules_changed" || outcome === "idle") {
      return undefined;
    }
    const budget = this.#budget(slotAddress, now);
    if (budget.left < 1) {
      budget.untold++;
      return undefined;
    }
    const { untold } = budget;
    budget.left--;
    budget.untold = 0;
    return { message: "refused", slotAddress, protocol, reason: outcome, name, detail: describe(error), untold };
  }

  #budget(slotAddress: string, now: number): Budget {
    const known = this.#budgets.get(slotAddress);
    if (known) {
      known.left = Math.min(BURST, known.left + (now - known.at) / REFILL_MS);
      known.at = now;
      return known;
    }
    if (this.#budgets.size >= MAX_SLOTS) this.#budgets.clear();
    const budget = { left: BURST, at: now, untold: 0 };
    this.#budgets.set(slotAddress, budget);
    return budget;
  }
}

function describe(error: unknown): string | undefined {
  if (error instanceof Refusal) {
    return error.cause ? `${error.message}: ${causes(error.cause)}`.slice(0, 500) : error.detail;
  }
  return error === undefined ? undefined : String(error).slice(0, 500);
}

function causes(cause: unknown): string {
  return cause instanceof AggregateError ? cause.errors.map(String).join("; ") : String(cause);
}
