import { z } from "zod";

const UNIT_SEC: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** How durations are written, for messages. */
export const DURATION_RULE = "must be a number with s, m, h, d or w, such as 90s or 30d";

/** Seconds of a duration such as `90s`, `15m`, `12h`, `30d` or `2w`; undefined when it is none. */
export function parseDurationSec(text: string): number | undefined {
  const match = /^([0-9]{1,9})([smhdw])$/.exec(text);
  return match ? Number(match[1]) * UNIT_SEC[match[2]!]! : undefined;
}

/** A duration in a configuration, as seconds. @param minSec and @param maxSec its limits. */
export function durationSec(minSec: number, maxSec: number) {
  return z.string().transform((text, context) => {
    const seconds = parseDurationSec(text);
    if (seconds !== undefined && seconds >= minSec && seconds <= maxSec) return seconds;
    context.addIssue({ code: "custom", message: `${DURATION_RULE}, of ${minSec} to ${maxSec} seconds` });
    return z.NEVER;
  });
}
