import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import { Semaphore } from "../../sandbox/semaphore.ts";
import type { NetworkConfig, Slot } from "../types.ts";
import { slotAt, slotCount } from "./addresses.ts";
import { makeSlot, type PreparedSlot, removeSlot } from "./make_slot.ts";
import type { NetworkPrograms } from "./programs.ts";

/** Slots are made when nobody has taken one for this long: making one takes 20 to 30 ms of what a resume needs. */
const QUIET_MS = 250;

/** At the same time: nobody waits for them, and after a crash there may be hundreds. */
const REMOVALS = 2;

/**
 * The slots of an agent: some prepared ahead, so that a start does not wait for one. A slot serves one virtual machine and is
 * then removed: a new one takes as long as finding and undoing all that a guest may have left in its namespace.
 */
export class SlotPool implements AsyncDisposable {
  readonly #programs: NetworkPrograms;
  readonly #config: NetworkConfig;
  readonly #target: number;
  readonly #prepared: PreparedSlot[] = [];
  /** Numbers of slots that there is anything of, or that are just being made or removed. */
  readonly #used = new Set<number>();
  readonly #background = new Set<Promise<void>>();
  readonly #removals = new Semaphore(REMOVALS);
  #quiet: ReturnType<typeof setTimeout> | undefined;
  #refilling = false;
  #ended = false;

  /** @param target how many are prepared ahead. */
  constructor(programs: NetworkPrograms, config: NetworkConfig, target: number) {
    this.#programs = programs;
    this.#config = config;
    this.#target = target;
  }

  /** A slot of this number is there and belongs to somebody. */
  occupy(index: number): void {
    this.#used.add(index);
  }

  /** True when this slot is one of those that are prepared. */
  has(index: number): boolean {
    return this.#prepared.some(({ slot }) => slot.index === index);
  }

  /** Prepares the first slot. @throws TorporError `no_capacity`, `unavailable`, NativeError. */
  async probe(): Promise<void> {
    this.#prepared.push(await this.#make());
  }

  /** @throws TorporError `no_capacity`, `unavailable`, NativeError. */
  async take(): Promise<PreparedSlot> {
    const prepared = this.#prepared.shift();
    this.#refillLater();
    return prepared ?? await this.#make();
  }

  /** Removes a slot in the background; its virtual machine has ended. */
  giveBack(slot: Slot): void {
    this.#inBackground(this.#remove(slot));
  }

  /** Begins to prepare slots. */
  start(): void {
    this.#inBackground(this.#refill());
  }

  /** Removes what is prepared and waits for what is being removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#quiet);
    while (this.#background.size > 0) await Promise.all(this.#background);
    for (const prepared of this.#prepared.splice(0)) await this.#discard(prepared);
  }

  #refillLater(): void {
    clearTimeout(this.#quiet);
    if (this.#ended || this.#target === 0) return;
    // Where starts follow each other so closely that it never is quiet, they would soon have to make their own.
    if (this.#prepared.length < this.#target / 4) this.start();
    else this.#quiet = setTimeout(() => this.start(), QUIET_MS);
  }

  async #refill(): Promise<void> {
    if (this.#refilling) return;
    this.#refilling = true;
    try {
      while (!this.#ended && this.#prepared.length < this.#target) {
        const prepared = await this.#make();
        if (this.#ended) return await this.#discard(prepared);
        this.#prepared.push(prepared);
      }
    } catch (error) {
      // Who takes one makes it, and says what is wrong.
      log("warn", "slot_not_prepared", {}, error);
    } finally {
      this.#refilling = false;
    }
  }

  async #make(): Promise<PreparedSlot> {
    const index = this.#freeIndex();
    this.#used.add(index);
    try {
      return await makeSlot(this.#programs, this.#config, slotAt(this.#config, index));
    } catch (error) {
      this.#used.delete(index);
      throw error;
    }
  }

  async #discard({ slot, tap }: PreparedSlot): Promise<void> {
    tap.close();
    await this.#remove(slot);
  }

  async #remove(slot: Slot): Promise<void> {
    try {
      await this.#removals.with(() => removeSlot(this.#programs, this.#config, slot));
      this.#used.delete(slot.index);
    } catch (error) {
      // Its number stays taken; the next agent sweeps it away.
      log("error", "slot_not_removed", { namespace: slot.namespace }, error);
    }
  }

  #freeIndex(): number {
    const count = slotCount(this.#config);
    for (let index = 0; index < count; index++) if (!this.#used.has(index)) return index;
    throw new TorporError("no_capacity", `all ${count} network slots of this host are in use`);
  }

  #inBackground(work: Promise<void>): void {
    this.#background.add(work);
    work.finally(() => this.#background.delete(work));
  }
}
