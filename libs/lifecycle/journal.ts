import {
  bindReservation,
  closeOperation,
  type Database,
  deleteReservation,
  insertKeptSnapshot,
  insertOperation,
  insertSandbox,
  type KeptSnapshotRow,
  type KeptSnapshotSizes,
  lockOperation,
  lockSandboxOfAnyTeam,
  newOperationId,
  type OperationKind,
  type OperationRequest,
  type OperationResult,
  type OperationRow,
  type Queryable,
  recordStep,
  recordUse,
  type SandboxChanges,
  type SandboxRow,
  type SandboxSpec,
  type SandboxState,
  setIdempotentOperation,
  setKeptSnapshotState,
  setOperationAnswer,
  supersedeOperations,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { currentTraceparent } from "@torpor/telemetry";
import { operationDeadlineMs } from "./deadlines.ts";
import { transition, transitionAlong } from "./transition.ts";

/** A sandbox and the operation that holds it. */
export interface Held {
  sandbox: SandboxRow;
  operation: OperationRow;
  /** Of the sandbox's host, when it is known. */
  hostAddress?: string;
}

/** Who begins an operation. */
export interface Initiator {
  /** Advisory lock key of this process; null for an operation that is recorded after the fact. */
  owner: bigint | null;
  idempotencyKey?: string;
  /** Of the operation that begins; a new one when not given. It is known also when the answer of the begin is lost. */
  operationId?: string;
}

/** The state that a sandbox is in while an operation is under way. */
export const TRANSITIONAL: Record<Exclude<OperationKind, "create">, SandboxState> = {
  pause: "pausing",
  resume: "resuming",
  delete: "deleting",
  snapshot: "snapshotting",
};

/** Writes a new sandbox with the operation that creates it. Part of the caller's transaction. */
export async function beginCreate(
  sql: Queryable,
  sandbox: { id: string; teamId: string; spec: SandboxSpec },
  initiator: Initiator,
): Promise<Held> {
  const { operationId = newOperationId() } = initiator;
  const deadlineMs = operationDeadlineMs("create", sandbox.spec);
  const row = await insertSandbox(sql, { ...sandbox, operationId, deadlineMs });
  return await journal(sql, row, { kind: "create", id: operationId, deadlineMs }, initiator);
}

/**
 * Journals an operation and moves the sandbox into its transitional state, before the host is called. A delete takes
 * the place of whatever operation holds the sandbox. Part of the caller's transaction.
 * @param row the sandbox, locked.
 */
export async function beginOperation(
  sql: Queryable,
  row: SandboxRow,
  kind: Exclude<OperationKind, "create" | "snapshot">,
  initiator: Initiator,
  asked: Pick<SandboxChanges, "timeoutSec"> & { request?: OperationRequest } = {},
): Promise<Held> {
  const { request, timeoutSec } = asked;
  const { operationId = newOperationId() } = initiator;
  const deadlineMs = operationDeadlineMs(kind, row);
  if (kind === "delete") await supersedeOperations(sql, row.id, `delete ${operationId} took its place`);
  const sandbox = await transition(sql, row, TRANSITIONAL[kind], { timeoutSec, operationId, deadlineMs });
  return await journal(sql, sandbox, { kind, id: operationId, deadlineMs, request }, initiator);
}

/**
 * Writes a new snapshot and journals the operation that takes it of a running or paused sandbox. Part of the caller's
 * transaction.
 * @param row the sandbox, locked.
 * @throws `already_exists` when the name is taken.
 */
export async function beginSnapshot(
  sql: Queryable,
  row: SandboxRow,
  snapshot: Pick<KeptSnapshotRow, "id" | "name" | "kind" | "platform"> & { expiresInSec?: number },
  initiator: Initiator,
): Promise<Held & { snapshot: KeptSnapshotRow }> {
  const { teamId, template, vcpus, memoryMb, diskSizeMb } = row;
  const source = { teamId, template, vcpus, memoryMb, diskSizeMb, hostId: row.hostId!, sandboxId: row.id };
  const kept = await insertKeptSnapshot(sql, { ...source, ...snapshot });
  const { operationId = newOperationId() } = initiator;
  const deadlineMs = operationDeadlineMs("snapshot", row);
  const sandbox = await transition(sql, row, "snapshotting", { operationId, deadlineMs });
  const request = { snapshotName: snapshot.name };
  const entry = { kind: "snapshot", id: operationId, deadlineMs, snapshotId: kept.id, request } as const;
  return { ...await journal(sql, sandbox, entry, initiator), snapshot: kept };
}

async function journal(
  sql: Queryable,
  sandbox: SandboxRow,
  entry: { kind: OperationKind; id: string; deadlineMs: number; snapshotId?: string; request?: OperationRequest },
  { owner, idempotencyKey }: Initiator,
): Promise<Held> {
  const operation = await insertOperation(sql, {
    ...entry,
    sandboxId: sandbox.id,
    hostId: sandbox.hostId,
    version: sandbox.version,
    owner,
    idempotencyKey,
    traceparent: currentTraceparent(),
  });
  if (idempotencyKey !== undefined) {
    await setIdempotentOperation(sql, { teamId: sandbox.teamId, key: idempotencyKey, operationId: entry.id });
  }
  return { sandbox, operation };
}

/**
 * Notes where the scheduler has placed the sandbox and makes the reservation last.
 * @throws `conflict` when a delete took the operation's place; `no_capacity` when the reservation has expired meanwhile.
 */
export async function recordPlacement(database: Database, held: Held, hostId: string): Promise<Held> {
  return await database.transaction("record_placement", async (sql) => {
    let sandbox = await requireHeld(sql, held);
    if (sandbox.state === "pending") {
      const deadlineMs = operationDeadlineMs("create", sandbox);
      sandbox = await transition(sql, sandbox, "starting", { hostId, deadlineMs });
    }
    if (!await bindReservation(sql, sandbox.id, hostId)) {
      throw new TorporError("no_capacity", "the reservation expired before the sandbox could use it", {
        retryAfterSec: 1,
      });
    }
    await recordStep(sql, held.operation.id, "placed", { hostId, version: sandbox.version });
    return { sandbox, operation: { ...held.operation, step: "placed", hostId, version: sandbox.version } };
  });
}

async function requireHeld(sql: Queryable, { sandbox, operation }: Held): Promise<SandboxRow> {
  const row = await lockSandboxOfAnyTeam(sql, sandbox.id);
  if (row?.operationId === operation.id && row.deadline !== null) return row;
  throw new TorporError(
    "conflict",
    `operation ${operation.id} (${operation.kind}) no longer holds sandbox ${sandbox.id}`,
  );
}

/** What an operation has come to. */
export interface Outcome {
  /** The states that the sandbox goes through to its resting state; empty: it stays where it is. */
  path: readonly SandboxState[];
  changes?: SandboxChanges;
  /** Why the operation failed; `thrown` is what the host threw, with its hint and field. */
  error?: { code: string; message: string; thrown?: TorporError };
  /** The snapshot that a `snapshot` operation has made. */
  kept?: KeptSnapshotSizes;
  result?: OperationResult;
}

/**
 * Closes an operation and brings the sandbox to rest, in one transaction. Repeats are fine: an operation that is closed
 * already is returned as it was closed.
 */
export async function finishOperation(database: Database, operation: OperationRow, outcome: Outcome): Promise<Held> {
  return await database.transaction("finish_operation", async (sql) => {
    const row = await lockSandboxOfAnyTeam(sql, operation.sandboxId);
    const open = await lockOperation(sql, operation.id);
    if (!row || !open) throw new TorporError("internal", `operation ${operation.id} has no row`);
    if (open.state !== "running") return { sandbox: row, operation: open };
    const sandbox = await transitionAlong(sql, row, outcome.path, outcome.changes);
    await settleReservation(sql, sandbox);
    const error = outcome.error ?? (outcome.kept && await keepSnapshot(sql, open, outcome.kept));
    if (error && open.snapshotId !== null) await failSnapshot(sql, open.snapshotId, error.code);
    const closed = await closeOperation(sql, operation.id, { error, result: outcome.result });
    if (!error) await setOperationAnswer(sql, operation.id);
    return { sandbox, operation: closed! };
  });
}

async function keepSnapshot(sql: Queryable, { snapshotId }: OperationRow, sizes: KeptSnapshotSizes) {
  if (await setKeptSnapshotState(sql, snapshotId!, ["creating"], "ready", { sizes })) return undefined;
  return { code: "conflict", message: `snapshot ${snapshotId} was deleted while it was taken` };
}

/** Without effect on a snapshot that is being deleted. */
async function failSnapshot(sql: Queryable, snapshotId: string, reason: string): Promise<void> {
  await setKeptSnapshotState(sql, snapshotId, ["creating"], "failed", { reason });
}

/** Makes the reservation fit the resting state of its sandbox. Part of the transaction that changes the state. */
export async function settleReservation(sql: Queryable, sandbox: SandboxRow): Promise<void> {
  const use = { sandboxId: sandbox.id, hostId: sandbox.hostId!, diskSizeMb: sandbox.diskSizeMb };
  if (sandbox.state === "running") {
    await recordUse(sql, { ...use, vcpus: sandbox.vcpus, memoryMb: sandbox.memoryMb });
  }
  // A paused sandbox holds nothing of its host but the disk.
  if (sandbox.state === "paused") await recordUse(sql, { ...use, vcpus: 0, memoryMb: 0 });
  if (sandbox.state === "failed" || sandbox.state === "deleted") await deleteReservation(sql, sandbox.id);
}
