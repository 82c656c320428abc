import { asTorporError } from "@torpor/errors";
import { count, log, newTrace } from "@torpor/telemetry";

/** What was repaired. Each one is a fault somewhere else. */
export type RepairKind =
  | "adopted_pause"
  | "adopted_resume"
  | "vm_gone"
  | "guest_stopped"
  | "guest_goes_on"
  | "network_repeated"
  | "orphan_destroyed"
  | "operation_finished"
  | "operation_rolled_back"
  | "host_lost"
  | "host_returned"
  | "host_removed"
  | "host_drained"
  | "snapshot_missing"
  | "delete_repeated"
  | "idle_paused"
  | "stale_deleted"
  | "ttl_expired"
  | "reservation_expired"
  | "snapshot_adopted"
  | "snapshot_failed"
  | "snapshot_damaged"
  | "snapshot_delete_repeated"
  | "snapshot_orphan_deleted"
  | "snapshot_expired"
  | "fork_finished"
  | "fork_rolled_back";

/** Repairs that found work lost. */
const LOST: RepairKind[] = ["snapshot_missing", "snapshot_damaged"];

/** One repair, as the RPC returns it. */
export interface Repair {
  kind: RepairKind;
  sandboxId?: string;
  /** Of a snapshot that belongs to no sandbox. */
  snapshotId?: string;
  hostId?: string;
  fromState?: string;
  toState?: string;
  reason?: string;
}

/** Carries repairs out one by one: a span, a log line and a count for each. */
export class RepairLog {
  #counts = new Map<string, bigint>();

  /**
   * Runs `work` as a repair in a trace of its own. When the sandbox has changed meanwhile nothing is done and nothing
   * recorded; other errors are logged, and the next pass tries again.
   * @returns the repair, or undefined when it was not carried out.
   */
  async carryOut(repair: Repair, work: () => Promise<unknown>): Promise<Repair | undefined> {
    try {
      await newTrace(`reconciler.${repair.kind}`, attributes(repair), work);
      return this.record(repair);
    } catch (thrown) {
      const changed = asTorporError(thrown).code === "conflict";
      log(changed ? "debug" : "warn", "repair_not_done", { ...repair }, thrown);
      return undefined;
    }
  }

  /** Counts and logs a repair that has been carried out. */
  record(repair: Repair): Repair {
    this.#counts.set(repair.kind, (this.#counts.get(repair.kind) ?? 0n) + 1n);
    count("torpor.reconciler.repairs", 1, { "torpor.repair": repair.kind });
    // A lost snapshot is lost work: an operator must look.
    log(LOST.includes(repair.kind) ? "error" : "warn", "repaired", { ...repair });
    return repair;
  }

  /** Repairs since the start, by kind. */
  counts(): Record<string, bigint> {
    return Object.fromEntries(this.#counts);
  }
}

function attributes(repair: Repair): Record<string, string> {
  return {
    "torpor.repair": repair.kind,
    "torpor.sandbox_id": repair.sandboxId ?? "",
    "torpor.snapshot_id": repair.snapshotId ?? "",
    "torpor.host_id": repair.hostId ?? "",
  };
}
