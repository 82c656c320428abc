import type { ErrorCode } from "@torpor/errors";
import type { StoredBytes } from "../snapshot/stored_bytes.ts";
import { type FoundSnapshot, isDamaged } from "../snapshot/sweep.ts";
import { removeIfPresent, replaceUnsynced, writeDurably } from "../storage/durable_file.ts";
import type { Layout } from "../storage/layout.ts";
import type { DiskFault } from "../vmm/driver.ts";
import type { HookOutcome } from "./guest_hooks.ts";
import type { OperationKind, SandboxRecord } from "./record.ts";
import type { RunningVm } from "./running_vm.ts";

/** What ListSandboxes shows: where the sandbox rests, or what is being done to it. */
export type SandboxStatus =
  | "starting"
  | "running"
  | "pausing"
  | "paused"
  | "resuming"
  | "snapshotting"
  | "deleting"
  | "failed";

const STATUS_DURING: Record<OperationKind, SandboxStatus> = {
  create: "starting",
  pause: "pausing",
  auto_pause: "pausing",
  resume: "resuming",
  snapshot: "snapshotting",
  snapshot_and_destroy: "pausing",
  destroy: "deleting",
};

/** One sandbox of this host: its record on disk and what it has in this process. Only lock holders change it. */
export class Sandbox {
  readonly record: SandboxRecord;
  vm: RunningVm | undefined;
  /** The newest committed snapshot. */
  newest: FoundSnapshot | undefined;
  /** Ends the operation in flight early, where that is safe: delete does not wait for a slow boot. */
  interrupt: AbortController | undefined;
  /** By the monotonic clock, `performance.now()`: before this process began it is negative. */
  lastActiveAtMs: number;
  /** What is stored for it, as it was measured last. */
  stored: StoredBytes = { unique: 0, shared: 0 };
  /** What the guest did before the last pause that this agent began. */
  hooks: HookOutcome[] = [];
  /** Requests that use the sandbox now: while there are any, it is not idle. */
  uses = 0;

  constructor(record: SandboxRecord) {
    this.record = record;
    // Only from one process to the next the wall clock is all there is. Nothing was used in the future.
    this.lastActiveAtMs = performance.now() - Math.max(0, Date.now() - record.last_active_at_ms);
  }

  get id(): string {
    return this.record.sandbox_id;
  }

  get status(): SandboxStatus {
    const { operation, state } = this.record;
    if (operation?.state === "running" && !(operation.kind === "snapshot" && state === "paused")) {
      return STATUS_DURING[operation.kind];
    }
    return state === "new" ? "starting" : state;
  }

  /** Why the VM went away, its guest was stopped, the last operation failed, or it cannot be resumed; empty when all is well. */
  get reason(): string {
    const unusable = this.status === "paused" && this.newest !== undefined && isDamaged(this.newest);
    return unusable ? "snapshot_corrupt" : this.guestStoppedFor ?? this.record.reason;
  }

  /** It runs, but its VMM has stopped the guest for this. */
  get guestStoppedFor(): DiskFault | undefined {
    return this.vm && !this.vm.ended ? this.vm.vmm.diskFault : undefined;
  }

  /** The snapshots that it needs: its newest generation, and what its running VM was resumed from. */
  get snapshots(): FoundSnapshot[] {
    const parent = this.vm?.parent && { manifest: this.vm.parent.manifest, sources: this.vm.parent.table.sources };
    return [this.newest, parent].filter((snapshot) => snapshot !== undefined);
  }

  /** Ids of the snapshots that its VM runs from or that an operation has in hand. */
  get snapshotsInUse(): string[] {
    const atRest = !this.vm && this.record.operation?.state !== "running";
    return atRest ? [] : this.snapshots.map(({ manifest }) => manifest.snapshot_id);
  }

  /** Notes that the sandbox is being used. */
  touch(): void {
    this.lastActiveAtMs = performance.now();
  }

  /** Since its last use, ms; a command that runs for hours is use. */
  get unusedForMs(): number {
    return this.uses > 0 ? 0 : performance.now() - this.lastActiveAtMs;
  }

  /**
   * Writes the record. While a VM runs it goes to a file of its own that no sync waits for, as one can take 200 ms beside
   * other writers: a power loss ends the VM as well, and the sandbox is then again what the durable record says.
   */
  async save(layout: Layout): Promise<void> {
    const { record, runningRecord } = layout.sandbox(this.id);
    this.record.last_active_at_ms = Math.round(Date.now() - (performance.now() - this.lastActiveAtMs));
    this.record.revision++;
    const text = JSON.stringify(this.record, null, 2) + "\n";
    if (this.record.vm) return await replaceUnsynced(runningRecord, text);
    await writeDurably(record, text);
    await removeIfPresent(runningRecord);
  }

  /** Notes where the sandbox rests now, and why. */
  rest(state: SandboxRecord["state"], reason: ErrorCode | ""): void {
    this.record.state = state;
    this.record.reason = reason;
    if (state !== "running") this.record.vm = null;
  }
}
