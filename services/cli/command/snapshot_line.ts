import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Snapshot } from "@torpor/proto/torpor";
import { formatAge, formatBytes, formatMs } from "../terminal/format.ts";

/** What a snapshot that was just taken cost. @param ms from the call to the answer. */
export function describeSnapshot({ sizes, stoppedUs }: Snapshot, ms: number): string {
  const size = formatBytes(Number(sizes?.sizeBytes ?? 0n));
  const stop = stoppedUs === 0n
    ? "nothing was stopped"
    : `the sandbox stood still for ${formatMs(Number(stoppedUs) / 1000)}`;
  return `${size} after ${formatMs(ms)}; ${stop}`;
}

/** When a snapshot is deleted by itself. */
export function describeExpiry({ expiresAt }: Snapshot): string {
  return expiresAt ? `deleted in ${formatAge(new Date(), timestampDate(expiresAt))}` : "kept for ever";
}
