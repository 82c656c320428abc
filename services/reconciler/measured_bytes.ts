import type { StoredBytes } from "@torpor/db";

/** What a host has measured of its sandboxes or snapshots, by id. One that it has not measured yet keeps what was known. */
export function measuredBytes(infos: ReadonlyMap<string, StoredBytes>): Map<string, StoredBytes> {
  const measured = new Map<string, StoredBytes>();
  for (const [id, { uniqueBytes, sharedBytes }] of infos) {
    if (uniqueBytes > 0n || sharedBytes > 0n) measured.set(id, { uniqueBytes, sharedBytes });
  }
  return measured;
}
