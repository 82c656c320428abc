import type { KeptSnapshotSizes, OperationKind, SnapshotRow } from "@torpor/db";
import type { SandboxInfo, SnapshotInfo } from "@torpor/proto/hostagent";
import type { Outcome } from "./journal.ts";

/** What a host answered about an operation and its sandbox. */
export interface HostView {
  /** `unknown`: the host has never begun it, or has forgotten it. */
  operation: "running" | "succeeded" | "failed" | "unknown";
  /** Of a failed operation. */
  error?: Outcome["error"];
  /** Absent when the host has no such sandbox. */
  sandbox?: SandboxInfo;
  /** The snapshot that a `snapshot` operation makes; absent when the host does not have it. */
  kept?: KeptSnapshotSizes;
}

const BUSY = ["starting", "pausing", "resuming", "snapshotting", "deleting"];

/**
 * What an operation has come to by what its host says. The sandbox's status on the host decides, not the operation's:
 * a pause that "failed" after its commit has left a paused sandbox.
 * @returns undefined while the host is still at work.
 */
export function decideOutcome(
  kind: Exclude<OperationKind, "delete" | "snapshot">,
  view: HostView,
): Outcome | undefined {
  if (isBusy(view)) return undefined;
  return { create: decideCreate, pause: decidePause, resume: decideResume }[kind](view);
}

/**
 * What a checkpoint has come to by what its host says. The sandbox goes back to where it was; what became of it on the
 * host meanwhile, the reconciler finds in its inventory.
 * @param before the state of the sandbox before the checkpoint.
 * @returns undefined while the host is still at work.
 */
export function decideSnapshot(before: "running" | "paused", view: HostView): Outcome | undefined {
  if (isBusy(view)) return undefined;
  if (view.kept) return { path: [before], kept: view.kept };
  return { path: [before], error: view.error ?? lostWork("unavailable", "the host has not made the snapshot") };
}

function isBusy(view: HostView): boolean {
  return view.operation === "running" || BUSY.includes(view.sandbox?.status ?? "");
}

function decideCreate({ operation, error, sandbox }: HostView): Outcome {
  // A sandbox that its host has paused since was created all the same; the reconciler records the pause next.
  if (sandbox?.status === "running" || (sandbox?.status === "paused" && operation !== "failed")) {
    return { path: ["running"], changes: { accelerator: sandbox.accelerator } };
  }
  const failure = error ?? lostWork(sandbox?.reason || "unavailable", "the host does not have the sandbox");
  return { path: ["failed"], changes: { reason: failure.code }, error: failure };
}

function decidePause({ operation, error, sandbox }: HostView): Outcome {
  if (sandbox?.status === "paused" && sandbox.snapshot) {
    const changes = { snapshot: toSnapshotRow(sandbox.snapshot), accelerator: "", reason: sandbox.reason };
    // With a reason, the VM died and what the host offers is an older generation: never silently.
    if (sandbox.reason === "") return { path: ["paused"], changes };
    return { path: ["paused"], changes, error: error ?? lostWork(sandbox.reason, "the VM ended before it was saved") };
  }
  if (sandbox?.status === "running") {
    return { path: ["running"], error: error ?? lostWork("pause_failed", `the pause is ${operation} and the VM runs`) };
  }
  const failure = error ?? lostWork(sandbox?.reason || "vm_gone", "the VM ended before it was saved");
  return {
    path: ["running", "failed"],
    changes: { reason: sandbox?.reason || "vm_gone", accelerator: "" },
    error: failure,
  };
}

function decideResume({ operation, error, sandbox }: HostView): Outcome {
  // A sandbox that its host has paused again since was resumed all the same; the reconciler records the pause next.
  if (sandbox?.status === "running" || (sandbox?.status === "paused" && operation === "succeeded")) {
    return { path: ["running"], changes: { accelerator: sandbox.accelerator } };
  }
  if (sandbox?.status === "paused") {
    return { path: ["paused"], error: error ?? lostWork("resume_failed", "the host still has it paused") };
  }
  const reason = sandbox?.reason || "snapshot_missing";
  const failure = error ?? lostWork(reason, "the host no longer has the sandbox");
  return { path: ["paused", "failed"], changes: { reason }, error: failure };
}

function lostWork(code: string, message: string) {
  return { code, message };
}

/** A host's description of a snapshot that belongs to no sandbox. */
export function toKeptSizes(info: SnapshotInfo, stoppedUs: bigint): KeptSnapshotSizes {
  const { id: _id, createdAt: _createdAt, ...sizes } = toSnapshotRow(info);
  return { ...sizes, stoppedUs };
}

/** A host's description of a snapshot as the database keeps it. */
export function toSnapshotRow(info: SnapshotInfo): SnapshotRow {
  return {
    id: info.snapshotId,
    generation: info.generation,
    sizeBytes: info.sizeBytes,
    memoryBytes: info.memoryBytes,
    diskBytes: info.diskBytes,
    pagesResident: info.pagesResident,
    pagesDirty: info.pagesDirty,
    pagesData: info.pagesData,
    createdAt: new Date(Number(info.createdAtUnixMs)),
  };
}
