import { roundMs } from "../terminal/format.ts";

/** Several measurements of one thing. */
export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** The spread of at least one number. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median: roundMs(median), min: roundMs(sorted[0]!), max: roundMs(sorted.at(-1)!) };
}
