import type { MessageInitShape } from "@bufbuild/protobuf";
import { TorporError } from "@torpor/errors";
import type { GetStatusResponseSchema } from "@torpor/proto/reconciler";
import { log, timed, untraced } from "@torpor/telemetry";
import { HostViews } from "./host_views.ts";
import { Leadership } from "./leadership.ts";
import { type PassContext, type PassResult, runPass } from "./pass.ts";
import { RepairLog } from "./repairs.ts";

/** Runs a pass every interval while this replica leads. */
export class ReconcileLoop implements AsyncDisposable {
  readonly #leadership: Leadership;
  readonly #repairs = new RepairLog();
  readonly #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  /** The pass that runs, or the last one: passes follow each other, whoever asks for them. */
  #pass: Promise<unknown> = Promise.resolve();
  #passes = 0;
  /** Of one term: while another replica led, this one has seen nothing. */
  #views = new HostViews();
  #term = 0;
  #last = { endedAt: 0, tookMs: 0 };

  constructor(private readonly context: Omit<PassContext, "repairs" | "leadingMs" | "views"> & { intervalMs: number }) {
    this.#leadership = new Leadership(context.database);
  }

  /** Begins to run passes until disposed. */
  start(): void {
    this.#ended = untraced(() => this.#run());
  }

  /**
   * Runs one pass now, after the one that may be running.
   * @throws `not_leader` on a stand-by.
   */
  async reconcileNow(): Promise<PassResult> {
    const result = await this.#enqueue();
    if (result) return result;
    throw new TorporError("not_leader", "another reconciler leads", { hint: "ask the other replica" });
  }

  /** This replica led at its last pass, and its connection still stands. */
  get leads(): boolean {
    return this.#leadership.held;
  }

  /** Who leads and what was done since the start. */
  status(): MessageInitShape<typeof GetStatusResponseSchema> {
    return {
      leader: this.#leadership.held,
      passes: BigInt(this.#passes),
      lastPassUnixMs: BigInt(this.#last.endedAt),
      lastPassMs: BigInt(this.#last.tookMs),
      repairsByKind: this.#repairs.counts(),
    };
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#enqueue();
      } catch (thrown) {
        // The database or the network is away; the next pass starts from the facts again.
        log("warn", "pass_failed", {}, thrown);
      }
      await this.#pause();
    }
  }

  #enqueue(): Promise<PassResult | undefined> {
    const next = this.#pass.then(() => this.#passIfLeading());
    this.#pass = next.catch(() => {});
    return next;
  }

  async #passIfLeading(): Promise<PassResult | undefined> {
    if (this.#stop.signal.aborted || !await this.#leadership.confirm()) return undefined;
    const { term, heldMs } = this.#leadership;
    if (term !== this.#term) this.#views = new HostViews();
    this.#term = term;
    const began = performance.now();
    const context = { ...this.context, repairs: this.#repairs, leadingMs: heldMs, views: this.#views };
    const result = await timed("torpor.reconciler.pass.duration", {}, () => runPass(context));
    this.#passes += 1;
    this.#last = { endedAt: Date.now(), tookMs: Math.round(performance.now() - began) };
    return result;
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stop.signal.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        this.#stop.signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, this.context.intervalMs);
      this.#stop.signal.addEventListener("abort", end);
    });
  }

  /** Ends the loop after the pass that runs, and gives the leadership back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
    await this.#pass;
    await this.#leadership[Symbol.asyncDispose]();
  }
}
