import { type ExportResult, keepPresent, MemoryCopy, presentPages } from "@torpor/ffi";
import type { Layout } from "../storage/layout.ts";
import { addressOf, differingPages, takeWritten, type TrackedMemory } from "./dirty_pages.ts";
import { countBits, orInto } from "./tracking/bitmap.ts";

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
      pages = await this.#round(await this.#takeMarks());
    }
  }

  /** Copies the rest into memory, as far as it fits. */
  async lastRound(): Promise<void> {
    const { pager } = this.#memory;
    const written = await this.#takeMarks();
    this.rounds.push(await this.#copy.round(written, { hold: true }));
    // A page that the guest gave back has no mark. Holes among them are not read.
    if (pager) await this.#copy.round(pager.removedPages(), { hold: true });
  }

  async finish(): Promise<ExportResult> {
    return await this.#copy.finish({ complete: !this.#memory.parent });
  }

  async #firstRound(): Promise<number> {
    const { memory, pager, marks, parent } = this.#memory;
    const wasComplete = marks.complete;
    const earlier = marks.taken?.slice();
    const pages = await this.#takeMarks();
    // The marks are armed: what is written while this looks is marked for the next round.
    if (!parent) return await this.#round(await presentPages(memory.fd, memory.sizeBytes));
    if (!wasComplete) return await this.#round(await differingPages({ ...this.#memory, parent }, this.#layout));
    if (earlier) orInto(pages, earlier);
    // Earlier marks may be of pages that are holes now.
    if (pager && earlier) await keepPresent(memory.fd, memory.sizeBytes, pages);
    if (pager) orInto(pages, pager.removedPages());
    return await this.#round(pages);
  }

  async #round(pages: Uint8Array<ArrayBuffer>): Promise<number> {
    const copied = countBits(pages);
    await this.#copy.round(pages);
    this.rounds.push(copied);
    return copied;
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
