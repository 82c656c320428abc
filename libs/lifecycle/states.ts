import { SANDBOX_STATES, type SandboxRow, type SandboxState } from "@torpor/db";

/**
 * Which state may follow which: the only place that knows. The same table, with the reasons, is in docs/lifecycle.md.
 *
 *     pending ─▶ starting ─▶ running ◀─────────────┐
 *                              │  ▲ pause failed   │
 *                              ▼  │                │
 *                            pausing ─▶ paused ─▶ resuming
 *                                         ▲ restore failed │
 *                                         └────────────────┘
 *     running ◀─▶ snapshotting ◀─▶ paused (a checkpoint leaves the sandbox as it was)
 *     running, pausing, paused, snapshotting ─▶ lost (host silent or removed) ─▶ running, paused, failed
 *     every state but deleted ─▶ deleting ─▶ deleted
 */
export const TRANSITIONS: Readonly<Record<SandboxState, readonly SandboxState[]>> = {
  /** Row written, no host yet. */
  pending: ["starting", "failed", "deleting"],
  /** Host chosen, VM being created. */
  starting: ["running", "failed", "deleting"],
  running: ["pausing", "snapshotting", "deleting", "lost", "failed"],
  /** Set before the host is called, so that nobody takes the vanishing VM for a dead one. */
  pausing: ["paused", "running", "deleting", "lost"],
  /** Snapshot committed. `failed` only when the host no longer has that snapshot, `lost` only when its host was removed. */
  paused: ["resuming", "snapshotting", "deleting", "lost", "failed"],
  resuming: ["running", "paused", "deleting"],
  /** A checkpoint is taken: of a running sandbox, whose VM goes on meanwhile, or of a paused one, without any VM. */
  snapshotting: ["running", "paused", "deleting", "lost"],
  /** Its host has been silent for longer than the grace period, or was removed. What it says when it is back decides. */
  lost: ["running", "paused", "failed", "deleting"],
  failed: ["deleting"],
  /** Repeats until the host confirms. */
  deleting: ["deleted"],
  deleted: [],
};

/** States in which an operation is under way: the row carries operation and deadline (and a CHECK constraint says so). */
export const TRANSITIONAL_STATES: readonly SandboxState[] = [
  "pending",
  "starting",
  "pausing",
  "resuming",
  "snapshotting",
  "deleting",
];

/** True when a sandbox may go from one state straight to the other. */
export function canTransition(from: SandboxState, to: SandboxState): boolean {
  return TRANSITIONS[from].includes(to);
}

/** True while an operation holds the sandbox. */
export function isTransitional(state: SandboxState): boolean {
  return TRANSITIONAL_STATES.includes(state);
}

/** True while a VM executes that commands can be sent to: also during a checkpoint of a running sandbox. */
export function isLive(sandbox: Pick<SandboxRow, "state" | "accelerator">): boolean {
  return sandbox.state === "running" || sandbox.state === "snapshotting" && sandbox.accelerator !== "";
}

/** The state that a sandbox had before the checkpoint under way, and will have after it. */
export function stateAroundSnapshot(sandbox: Pick<SandboxRow, "accelerator">): "running" | "paused" {
  return sandbox.accelerator === "" ? "paused" : "running";
}

/** Whether a lost sandbox ran, as far as is known, when its host was lost; else it was paused there. */
export function ranWhenLost(sandbox: Pick<SandboxRow, "accelerator">): boolean {
  return sandbox.accelerator !== "";
}

/** True when `text` names a state. */
export function isSandboxState(text: string): text is SandboxState {
  return (SANDBOX_STATES as readonly string[]).includes(text);
}
