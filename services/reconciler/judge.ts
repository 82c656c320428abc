import type { InventoryRow, SnapshotRow } from "@torpor/db";
import { isTransitional, ranWhenLost, toSnapshotRow } from "@torpor/lifecycle";
import type { SandboxInfo } from "@torpor/proto/hostagent";

/** What has to be done so that the database and one host agree about one sandbox. */
export type Verdict =
  | { do: "nothing" }
  | { do: "adopt_pause"; kind: "adopted_pause" | "host_returned" | "vm_gone"; snapshot: SnapshotRow; reason: string }
  | { do: "adopt_running"; kind: "adopted_resume" | "host_returned"; accelerator: string }
  | { do: "note_reason"; kind: "guest_stopped" | "guest_goes_on"; reason: string }
  | { do: "tell_network"; kind: "network_repeated" }
  | { do: "mark_failed"; kind: "vm_gone" | "snapshot_missing"; reason: string }
  | { do: "destroy" };

/** When and where the inventory was taken. */
export interface Inventory {
  hostId: string;
  /** The database's time before the host was asked. */
  takenAt: Date;
  /** Rows that changed within this time before it are not judged where that would lose something, ms. */
  graceMs: number;
}

const NOTHING: Verdict = { do: "nothing" };

/**
 * Compares what the database says of a sandbox with what its host says; the table of docs/lifecycle.md.
 * @param row read AFTER the inventory was taken, so that a sandbox in flight is never taken for a dead one.
 * @param info undefined: the host does not have it.
 */
export function judge(row: InventoryRow | undefined, info: SandboxInfo | undefined, inventory: Inventory): Verdict {
  if (!row || row.state === "deleted") return judgeOrphan(row, info, inventory);
  // Operations are settled one by one, by asking the host about the operation itself.
  if (isTransitional(row.state)) return NOTHING;
  if (row.stateChangedAt >= inventory.takenAt) return NOTHING;
  if (row.hostId !== inventory.hostId) return judgeOrphan(row, info, inventory);
  switch (row.state) {
    case "running":
      return judgeRunning(row, info, inventory);
    case "paused":
      return judgePaused(row, info, inventory);
    case "lost":
      return judgeLost(row, info, inventory);
    case "failed":
      // It never had a snapshot and cannot come back: the VM is what a create left behind that was given up.
      return row.snapshotId === null && info?.status === "running" && isOld(row, inventory)
        ? { do: "destroy" }
        : NOTHING;
    default:
      return NOTHING;
  }
}

function judgeOrphan(row: InventoryRow | undefined, info: SandboxInfo | undefined, inventory: Inventory): Verdict {
  if (!info || info.status === "deleting") return NOTHING;
  const createdMs = Number(info.createdAtUnix) * 1000;
  if (inventory.takenAt.getTime() - createdMs <= inventory.graceMs) return NOTHING;
  return row && !isOld(row, inventory) ? NOTHING : { do: "destroy" };
}

function judgeRunning(row: InventoryRow, info: SandboxInfo | undefined, inventory: Inventory): Verdict {
  if (info?.status === "paused" && info.snapshot) {
    const snapshot = toSnapshotRow(info.snapshot);
    if (snapshot.id !== row.snapshotId && info.reason === "") {
      return { do: "adopt_pause", kind: "adopted_pause", snapshot, reason: "" };
    }
    // The VM died after its last resume: what is left is where it began. Said aloud, never silently.
    return { do: "adopt_pause", kind: "vm_gone", snapshot, reason: info.reason || "vm_gone" };
  }
  if (info?.status === "failed") return { do: "mark_failed", kind: "vm_gone", reason: info.reason || "vm_gone" };
  if (!info && isOld(row, inventory)) return { do: "mark_failed", kind: "vm_gone", reason: "vm_gone" };
  return info?.status === "running" ? judgeGuest(row, info, inventory) : NOTHING;
}

/** A guest that its VMM has stopped is still a running sandbox. Other reasons are of an operation that has failed. */
function judgeGuest(row: InventoryRow, info: SandboxInfo, inventory: Inventory): Verdict {
  const { guestStopped, reason } = info;
  const wanted = guestStopped ? reason : "";
  if (row.reason === wanted) return judgeNetwork(row, info, inventory);
  return { do: "note_reason", kind: guestStopped ? "guest_stopped" : "guest_goes_on", reason: wanted };
}

/** Its host was not reached with what it may reach, or has lost it. */
function judgeNetwork(row: InventoryRow, { networkRevision }: SandboxInfo, { takenAt }: Inventory): Verdict {
  const told = networkRevision >= row.networkRevision ||
    (row.networkChangedAt !== null && row.networkChangedAt >= takenAt);
  return told ? NOTHING : { do: "tell_network", kind: "network_repeated" };
}

/** Reasons by which a host says that the snapshot it lists cannot be used. */
const UNUSABLE = ["snapshot_missing", "snapshot_corrupt"];

function judgePaused(row: InventoryRow, info: SandboxInfo | undefined, inventory: Inventory): Verdict {
  if (!isOld(row, inventory)) return NOTHING;
  const missing = (reason: string): Verdict => ({ do: "mark_failed", kind: "snapshot_missing", reason });
  if (!info) return missing("snapshot_missing");
  // A resume that was given up here has reached the host after all.
  if (info.status === "running") return { do: "adopt_running", kind: "adopted_resume", accelerator: info.accelerator };
  if (info.status === "failed") return missing(info.reason || "snapshot_missing");
  if (info.status !== "paused") return NOTHING;
  if (UNUSABLE.includes(info.reason)) return missing(info.reason);
  const known = row.snapshotGeneration ?? 0;
  const found = info.snapshot?.generation ?? 0;
  // Never a silent older generation.
  if (found < known) return missing("snapshot_missing");
  // It has been resumed and paused again: first the one, in the next pass the other is written down.
  return found > known ? { do: "adopt_running", kind: "adopted_resume", accelerator: "" } : NOTHING;
}

function judgeLost(row: InventoryRow, info: SandboxInfo | undefined, inventory: Inventory): Verdict {
  if (info?.status === "running") {
    return { do: "adopt_running", kind: "host_returned", accelerator: info.accelerator };
  }
  if (info?.status === "paused" && info.snapshot) {
    const snapshot = toSnapshotRow(info.snapshot);
    // Its disk is an old copy. Never a silent older generation.
    if (snapshot.generation < (row.snapshotGeneration ?? 0)) {
      return { do: "mark_failed", kind: "snapshot_missing", reason: "snapshot_missing" };
    }
    // What it did after that snapshot, it did in a VM that is gone.
    const behind = snapshot.id === row.snapshotId && ranWhenLost(row);
    return { do: "adopt_pause", kind: "host_returned", snapshot, reason: info.reason || (behind ? "vm_gone" : "") };
  }
  if (info && info.status !== "failed" || !isOld(row, inventory)) return NOTHING;
  const kind = ranWhenLost(row) ? "vm_gone" : "snapshot_missing";
  return { do: "mark_failed", kind, reason: info?.reason || kind };
}

function isOld(row: InventoryRow, { takenAt, graceMs }: Inventory): boolean {
  return takenAt.getTime() - row.stateChangedAt.getTime() > graceMs;
}
