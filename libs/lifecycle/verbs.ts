import type { OperationKind, OperationRow, SandboxRow } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { canTransition } from "./states.ts";

/** What to do about a request, by the state that the sandbox is in. */
export type Decision =
  /** Journal an operation and carry it out. */
  | "begin"
  /** The same operation is under way: wait for its end. */
  | "join"
  /** Another operation must end first. */
  | "wait"
  /** The sandbox is where the request wants it. */
  | "done"
  | "conflict";

/** The verbs on an existing sandbox. */
export type Verb = Exclude<OperationKind, "create">;

/** The rules for what meets what; see docs/lifecycle.md. */
export function decide(verb: Verb, { state }: Pick<SandboxRow, "state">): Decision {
  switch (verb) {
    case "pause":
      if (state === "paused") return "done";
      if (state === "pausing") return "join";
      if (state === "snapshotting") return "wait";
      return canTransition(state, "pausing") ? "begin" : "conflict";
    case "resume":
      if (state === "running") return "done";
      if (state === "resuming") return "join";
      if (state === "pausing" || state === "snapshotting") return "wait";
      return canTransition(state, "resuming") ? "begin" : "conflict";
    case "snapshot":
      return canTransition(state, "snapshotting") ? "begin" : "conflict";
    case "delete":
      if (state === "deleted") return "done";
      if (state === "deleting") return "join";
      return "begin";
  }
}

/** The error for a request that the sandbox's state does not allow: names the state, the operation and its age. */
export function stateConflict(verb: Verb, sandbox: SandboxRow, operation: OperationRow | undefined): TorporError {
  const reason = sandbox.reason === "" ? "" : ` (${sandbox.reason})`;
  const inTheWay = operation?.state === "running"
    ? `: operation ${operation.id} (${operation.kind}) runs since ${ageSec(operation.createdAt)} s`
    : "";
  const message = `cannot ${verb} sandbox ${sandbox.id}: it is ${sandbox.state}${reason}${inTheWay}`;
  if (operation?.state === "running") {
    return new TorporError("conflict", message, { hint: "wait for the operation to end", retryAfterSec: 1 });
  }
  return new TorporError("conflict", message, { hint: hintFor(sandbox) });
}

function hintFor({ state, reason }: SandboxRow): string | undefined {
  if (state === "failed") return "it cannot be recovered; delete it";
  if (state !== "lost") return undefined;
  return reason === "host_removed"
    ? "it comes back when its host is added again with its data directory; or delete it"
    : "it comes back with its host; or delete it";
}

function ageSec(since: Date): number {
  return Math.max(0, Math.round((Date.now() - since.getTime()) / 1000));
}
