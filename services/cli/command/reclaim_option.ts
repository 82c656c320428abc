import { UsageError } from "./exit_codes.ts";

const STEPS = {
  fstrim: "fstrimMs",
  sync: "syncMs",
  "drop-caches": "dropCachesMs",
  "compact-memory": "compactMemoryMs",
} as const;

/** The option of commands that set what a pause does in the guest first. */
export const RECLAIM_OPTION = {
  type: "string",
  description:
    "What a pause does in the guest first: fstrim, sync, drop-caches, compact-memory =MS, separated by commas",
  valueHint: "step=ms",
} as const;

/** Upper limits per step, milliseconds; undefined without the option. @throws UsageError */
export function reclaimOption(text: string | undefined) {
  if (text === undefined) return undefined;
  const caps = { fstrimMs: 0, syncMs: 0, dropCachesMs: 0, compactMemoryMs: 0 };
  for (const pair of text.split(",").filter((pair) => pair !== "")) {
    const match = /^([a-z-]+)=([0-9]{1,5})$/.exec(pair);
    const step = match && Object.hasOwn(STEPS, match[1]!) ? STEPS[match[1] as keyof typeof STEPS] : undefined;
    const ms = Number(match?.[2]);
    if (!step || ms > 60_000) {
      throw new UsageError(`--reclaim takes ${Object.keys(STEPS).join(", ")} with =MS up to 60000, not ${pair}`);
    }
    caps[step] = ms;
  }
  return caps;
}
