import type { ExportResult } from "@torpor/ffi";
import type { GuestMemory } from "./guest_memory.ts";
import type { MemorySaver } from "./precopy.ts";
import { countBits } from "./tracking/bitmap.ts";

/** Saves memory whose writes cannot be followed while the guest runs: all of it is done while the guest stands still. */
export class StoppedCopy implements MemorySaver {
  readonly rounds: number[] = [];
  readonly #memory: GuestMemory;
  readonly #findDirty: () => Promise<Uint8Array<ArrayBuffer> | null>;
  readonly #output: number;
  #result: ExportResult | undefined;

  /** @param findDirty the pages to save; null: all. @param output as for `exportPages`. */
  constructor(memory: GuestMemory, findDirty: () => Promise<Uint8Array<ArrayBuffer> | null>, output: number) {
    this.#memory = memory;
    this.#findDirty = findDirty;
    this.#output = output;
  }

  async run(): Promise<void> {}

  async lastRound(): Promise<void> {
    const dirty = await this.#findDirty();
    this.rounds.push(dirty ? countBits(dirty) : this.#memory.pagesTotal);
    this.#result = await this.#memory.exportPages(dirty, this.#output);
  }

  finish(): Promise<ExportResult> {
    return Promise.resolve(this.#result!);
  }

  [Symbol.dispose](): void {}
}
