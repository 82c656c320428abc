import { delay } from "../host/delay.ts";

/** Lets work in the background read only so many bytes a second, all together. */
export class Pace {
  readonly #bytesPerSecond: number;
  #freeAtMs = 0;

  /** @param bytesPerSecond Infinity: nobody waits. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Waits until so many bytes may be read. @throws the signal's reason when it aborts first. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const now = performance.now();
    const startMs = Math.max(now, this.#freeAtMs);
    // What nobody used is not saved up: a rest is never followed by a burst.
    this.#freeAtMs = startMs + (bytes / this.#bytesPerSecond) * 1000;
    if (startMs > now) await delay(startMs - now, signal);
  }
}

/** How much may be read, and until when. */
export interface Reading {
  pace: Pick<Pace, "take">;
  signal?: AbortSignal;
}

/** As fast as it goes. */
export const UNPACED: Reading = { pace: new Pace(Infinity) };
