import type { KeptSnapshotSizes, KeptSnapshotToReconcile } from "@torpor/db";
import { toKeptSizes } from "@torpor/lifecycle";
import type { KeptSnapshot } from "@torpor/proto/hostagent";
import type { Inventory } from "./judge.ts";

/** What has to be done so that the database and one host agree about a snapshot that belongs to no sandbox. */
export type SnapshotVerdict =
  | { do: "nothing" }
  /** It was taken by an operation that was given up. */
  | { do: "adopt"; sizes: KeptSnapshotSizes }
  /** Its host was removed, and is back. */
  | { do: "restore"; sizes: KeptSnapshotSizes }
  | { do: "mark_failed"; kind: "snapshot_failed" | "snapshot_missing" | "snapshot_damaged"; reason: string }
  /** It is being deleted: the host is told again. */
  | { do: "remove" }
  /** The host has what nobody knows, or what was given up. */
  | { do: "remove_orphan" };

const NOTHING: SnapshotVerdict = { do: "nothing" };

/**
 * Compares what the database says of a snapshot with what a host lists; the table of docs/lifecycle.md.
 * @param row read AFTER the host was asked.
 * @param listed undefined: the host does not have it.
 */
export function judgeSnapshot(
  row: KeptSnapshotToReconcile | undefined,
  listed: KeptSnapshot | undefined,
  inventory: Inventory,
): SnapshotVerdict {
  // An operation is settled by asking the host about the operation itself.
  if (row?.inOperation || (row && row.hostId !== inventory.hostId)) return NOTHING;
  switch (row?.state) {
    case "creating":
      if (listed?.snapshot) return { do: "adopt", sizes: toKeptSizes(listed.snapshot, 0n) };
      return isOld(row, inventory) ? failed("snapshot_failed") : NOTHING;
    case "ready":
      // The host has found its data damaged: that is no matter of time.
      if (listed?.reason) return { do: "mark_failed", kind: "snapshot_damaged", reason: listed.reason };
      return !listed && isOld(row, inventory) ? failed("snapshot_missing") : NOTHING;
    case "failed":
      return row.reason === "host_removed"
        ? judgeReturned(row, listed, inventory)
        : judgeOrphan(row, listed, inventory);
    case "deleting":
      return isOld(row, inventory) ? { do: "remove" } : NOTHING;
    default:
      return judgeOrphan(row, listed, inventory);
  }
}

function failed(kind: "snapshot_failed" | "snapshot_missing"): SnapshotVerdict {
  return { do: "mark_failed", kind, reason: "snapshot_missing" };
}

function judgeReturned(
  row: KeptSnapshotToReconcile,
  listed: KeptSnapshot | undefined,
  inventory: Inventory,
): SnapshotVerdict {
  if (!isOld(row, inventory)) return NOTHING;
  if (listed?.reason) return { do: "mark_failed", kind: "snapshot_damaged", reason: listed.reason };
  return listed?.snapshot ? { do: "restore", sizes: toKeptSizes(listed.snapshot, 0n) } : failed("snapshot_missing");
}

function judgeOrphan(
  row: KeptSnapshotToReconcile | undefined,
  listed: KeptSnapshot | undefined,
  inventory: Inventory,
): SnapshotVerdict {
  // Damaged data goes only when the snapshot is deleted: until then somebody may look at it, or repair it.
  if (!listed || row?.state === "failed" && row.reason === "snapshot_corrupt") return NOTHING;
  const ageMs = inventory.takenAt.getTime() - Number(listed.snapshot?.createdAtUnixMs ?? 0n);
  return ageMs > inventory.graceMs && (!row || isOld(row, inventory)) ? { do: "remove_orphan" } : NOTHING;
}

function isOld(row: KeptSnapshotToReconcile, { takenAt, graceMs }: Inventory): boolean {
  return takenAt.getTime() - row.stateChangedAt.getTime() > graceMs;
}
