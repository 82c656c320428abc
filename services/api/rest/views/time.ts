/** The times that a Date can hold, milliseconds; a guest's clock and files can have any. */
const MAX_DATE_MS = 8_640_000_000_000_000;

/** A time of a guest in ISO 8601, UTC; beyond what a Date can hold, the nearest that it can. */
export function isoTime(unixMs: bigint): string {
  return new Date(Math.max(-MAX_DATE_MS, Math.min(MAX_DATE_MS, Number(unixMs)))).toISOString();
}
