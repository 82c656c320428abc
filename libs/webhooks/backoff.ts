const FIRST_MS = 5_000;
const FACTOR = 4;
const MOST_MS = 6 * 3_600_000;

/** How often one event is sent before it is given up: with these pauses about a day. */
export const MAX_ATTEMPTS = 10;

/**
 * How long to wait after a failed attempt, ms: 5 s, 20 s, 80 s … at most 6 h, of which a random half to whole, so that a
 * receiver which comes back is not met by all at once.
 * @param attempts how many have failed, from 1.
 * @param askedMs what the receiver has asked for (Retry-After): not less than that, but not more than 6 h either.
 */
export function retryDelayMs(attempts: number, askedMs = 0, random: () => number = Math.random): number {
  const full = Math.min(MOST_MS, FIRST_MS * FACTOR ** (attempts - 1));
  return Math.min(MOST_MS, Math.max(askedMs, full * (0.5 + random() / 2)));
}
