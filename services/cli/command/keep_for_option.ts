import { parseDurationSec } from "@torpor/config";
import { UsageError } from "./exit_codes.ts";

/** Ten years: what the API takes at most. */
const MAX_SEC = 315_360_000;

/** The option of commands that say how long a snapshot is kept. */
export const KEEP_FOR_OPTION = {
  type: "string",
  description: 'After which time it is deleted, such as 12h or 30d, or "forever"',
  valueHint: "duration",
} as const;

/** Seconds until a snapshot is deleted, 0: never; undefined without the option. @throws UsageError */
export function keepForOption(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (text === "forever") return 0;
  const seconds = parseDurationSec(text);
  if (seconds !== undefined && seconds >= 1 && seconds <= MAX_SEC) return seconds;
  throw new UsageError(`--keep-for must be a number with s, m, h, d or w, up to 3650d, or "forever", not ${text}`);
}
