import { type ExportResult, keepPresent, MemoryCopy, presentPages } from "@torpor/ffi";
import type { Layout } from "../storage/layout.ts";
import { addressOf, differingPages, takeWritten, type TrackedMemory } from "./dirty_pages.ts";
import { countBits, orInto } from "./tracking/bitmap.ts";
import { removedSince, type RemovedState } from "./tracking/removed_since.ts";

/** More rounds than these do not help against a guest that writes as fast as it is copied. */
const MAX_ROUNDS = 6;
/** Copying these takes about a millisecond: less than stopping and saving the devices. */
const SMALL_REST_PAGES = 512;
/** A round that leaves more than this of the one before has reached what the guest keeps writing. */
const SHRINKING = 0.7;

/** How a checkpoint gets at the memory. */
export interface MemorySaver extends Disposable {
  /** What can be done while the guest runs. */
  run(signal: AbortSignal): Promise<void>;
  /** What must be done with the vCPUs stopped and the device state saved. */
  lastRound(): Promise<void>;
  /** Completes the output, which is not synced. The guest may run. */
  finish(): Promise<ExportResult>;
  /** Pages copied in each round. */
  readonly rounds: number[];
  /** What the guest had given back at the last round, where that is followed. */
  readonly removed?: RemovedState;
}

/** Memory whose writes are tracked by `pagemap_scan`; without a parent all of it is copied. */
export type PrecopyMemory = Omit<TrackedMemory, "parent"> & Partial<Pick<TrackedMemory, "parent">>;

/**
 * Copies the memory of a running guest, and again what it writes meanwhile, until little is left for the time that its
 * vCPUs stand still. Each round takes the kernel's marks of written pages and arms them again before it copies: what is
 * written later is marked for the next round. The marks stay in `memory.marks` until a snapshot accounts for them.
 */
export class Precopy implements MemorySaver {
  readonly #memory: PrecopyMemory;
  readonly #layout: Layout;
  readonly #address: bigint;
  readonly #copy: MemoryCopy;
  readonly rounds: number[] = [];
  #removed: RemovedState | undefined;

  private constructor(memory: PrecopyMemory, layout: Layout, address: bigint, copy: MemoryCopy) {
    this.#memory = memory;
    this.#layout = layout;
    this.#address = address;
    this.#copy = copy;
  }

  /** @param output an empty file, open for reading and writing until this is disposed. */
  static async start(memory: PrecopyMemory, layout: Layout, output: number): Promise<Precopy> {
    const { fd, sizeBytes } = memory.memory;
    const address = await addressOf(memory);
    return new Precopy(memory, layout, address, await MemoryCopy.start({ memory: fd, sizeBytes, output }));
  }

  /** Copies until what is left is small or does not shrink. */
  async run(signal: AbortSignal): Promise<void> {
    let pages = await this.#firstRound();
    let before = Infinity;
    while (this.rounds.length < MAX_ROUNDS && pages > SMALL_REST_PAGES && pages < before * SHRINKING) {
      signal.throwIfAborted();
      before = pages;
      pages = await this.#round(await this.#takeChanged());
    }
  }

  /** Copies the rest into memory, as far as it fits. */
  async lastRound(): Promise<void> {
    this.rounds.push(await this.#copy.round(await this.#takeChanged(), { hold: true }));
  }

  get removed(): RemovedState | undefined {
    return this.#removed;
  }

  async finish(): Promise<ExportResult> {
    return await this.#copy.finish({ complete: !this.#memory.parent });
  }

  async #firstRound(): Promise<number> {
    const { memory, pager, marks, parent } = this.#memory;
    const wasComplete = marks.complete;
    const earlier = marks.taken?.slice();
    this.#removed = marks.removed;
    const pages = await this.#takeMarks();
    const removed = this.#takeRemoved();
    // The marks are armed: what is written while this looks is marked for the next round.
    if (!parent) return await this.#round(await presentPages(memory.fd, memory.sizeBytes));
    if (!wasComplete) return await this.#round(await differingPages({ ...this.#memory, parent }, this.#layout));
    if (earlier) orInto(pages, earlier);
    // Earlier marks may be of pages that are holes now.
    if (pager && earlier) await keepPresent(memory.fd, memory.sizeBytes, pages);
    orInto(pages, removed);
    return await this.#round(pages);
  }

  async #round(pages: Uint8Array<ArrayBuffer>): Promise<number> {
    const copied = countBits(pages);
    await this.#copy.round(pages);
    this.rounds.push(copied);
    return copied;
  }

  /** Pages written or given back since the last call. Of those given back many are holes, which are not read. */
  async #takeChanged(): Promise<Uint8Array<ArrayBuffer>> {
    const pages = await this.#takeMarks();
    orInto(pages, this.#takeRemoved());
    return pages;
  }

  #takeRemoved(): Uint8Array {
    const { pager } = this.#memory;
    if (!pager) return new Uint8Array();
    const { removed, now } = removedSince(pager, this.#removed);
    this.#removed = now;
    return removed;
  }

  /** Written pages since the last call; they are armed again. */
  async #takeMarks(): Promise<Uint8Array<ArrayBuffer>> {
    const written = await takeWritten(this.#memory, this.#address, { protect: true });
    this.#memory.marks.take(written);
    return written;
  }

  [Symbol.dispose](): void {
    this.#copy[Symbol.dispose]();
  }
}
