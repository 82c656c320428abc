import type { Arena } from "./arena.ts";

/** Something that an intruder tries, and the proof that what tries it would have been able to. */
export interface Attempt {
  /** What is tried; docs/threat-model.md refers to it. */
  name: string;
  /** Also in the shorter cut. */
  quick: boolean;
  /**
   * The same probe where it is allowed, or where nothing confines it.
   * @returns what did not work; undefined: it worked.
   */
  control(arena: Arena): Promise<string | undefined>;
  /** @returns what got through; undefined: nothing did. */
  attack(arena: Arena): Promise<string | undefined>;
}

/** What an attempt has come to. */
export interface AttemptResult {
  name: string;
  /** What got through. */
  breach?: string;
  /** What did not work though it should have: then the attempt shows nothing. */
  controlFailed?: string;
  ms: number;
}

/** What a connection came to when nobody has answered. Whether its packets have gone somewhere is another question. */
export const NOT_OPEN: readonly string[] = ["timeout", "refused", "unreachable", "forbidden", "reset"];

/** Undefined when `actual` is `expected`. */
export function unless(actual: string, expected: string): string | undefined {
  return actual === expected ? undefined : `${JSON.stringify(actual.slice(0, 500))} instead of ${expected}`;
}
