import { getOperation, lockSandbox, type OperationRequest, type Queryable, type SandboxRow } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { beginOperation, type Initiator } from "./journal.ts";
import { type Begun, MustWait } from "./requests.ts";
import { decide, stateConflict, type Verb } from "./verbs.ts";

/** What is asked of an existing sandbox. */
export interface VerbRequest {
  verb: Exclude<Verb, "snapshot">;
  teamId: string;
  id: string;
  /** resume: replaces the idle timeout, seconds. */
  timeoutSec?: number;
  /** Goes into the journal for the call of the host. */
  request?: OperationRequest;
}

/**
 * Decides by the sandbox's state what becomes of a request, and begins it when that is possible. Part of the caller's
 * transaction.
 * @throws `sandbox_not_found`, `conflict`; {@linkcode MustWait}.
 */
export async function beginVerb(sql: Queryable, asked: VerbRequest, initiator: Initiator): Promise<Begun> {
  const { verb, timeoutSec, request } = asked;
  const sandbox = await lockOwn(sql, asked);
  const decision = decide(verb, sandbox);
  if (decision === "done") return { sandbox, operation: undefined };
  if (decision === "begin") {
    return { ...await beginOperation(sql, sandbox, verb, initiator, { timeoutSec, request }), begun: true };
  }
  const operation = sandbox.operationId === null ? undefined : await getOperation(sql, sandbox.operationId);
  if (decision === "join") return { sandbox, operation };
  if (decision === "wait" && operation) throw new MustWait(operation);
  throw stateConflict(verb, sandbox, operation);
}

/**
 * A sandbox that a snapshot can be taken of now, locked until the transaction ends.
 * @throws `sandbox_not_found`, `conflict`.
 */
export async function lockSnapshotSource(sql: Queryable, teamId: string, id: string): Promise<SandboxRow> {
  const sandbox = await lockOwn(sql, { teamId, id, verb: "snapshot" });
  if (decide("snapshot", sandbox) === "begin") return sandbox;
  const operation = sandbox.operationId === null ? undefined : await getOperation(sql, sandbox.operationId);
  throw stateConflict("snapshot", sandbox, operation);
}

async function lockOwn(sql: Queryable, { teamId, id, verb }: { teamId: string; id: string; verb: Verb }) {
  const sandbox = await lockSandbox(sql, teamId, id);
  if (sandbox && (sandbox.state !== "deleted" || verb === "delete")) return sandbox;
  throw new TorporError("sandbox_not_found", `no sandbox ${id}`);
}
