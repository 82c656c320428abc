import {
  type ForkRow,
  getFork,
  getForks,
  getTeamOperation,
  listOperations as queryOperations,
  type OperationKind,
  type OperationRow,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { ownSandbox } from "./running_sandbox.ts";

/** An operation as clients see it: the one that takes a fork's checkpoint stands for the whole fork. */
export interface ShownOperation extends Omit<OperationRow, "kind"> {
  kind: OperationKind | "fork";
  /** Of a fork: the sandboxes that it makes. */
  childIds: string[];
}

/** @param fork the one that the operation takes the checkpoint of; absent: it is none's. */
export function shownOperation(operation: OperationRow, fork?: ForkRow): ShownOperation {
  if (!fork) return { ...operation, childIds: [] };
  const { state, errorCode, errorMessage, finishedAt, childIds } = fork;
  return { ...operation, kind: "fork", state, errorCode, errorMessage, finishedAt, childIds };
}

/**
 * One lifecycle operation of the caller's team.
 * @throws TorporError `operation_not_found`.
 */
export async function getOperation(api: Api, caller: Caller, operationId: string): Promise<ShownOperation> {
  const operation = await getTeamOperation(api.database.sql, caller.teamId, operationId);
  if (!operation) throw new TorporError("operation_not_found", `no operation ${operationId}`);
  return shownOperation(operation, await getFork(api.database.sql, operationId));
}

/**
 * The journal of a sandbox, newest first, at most 100; also of a deleted one.
 * @throws TorporError `sandbox_not_found`.
 */
export async function listOperations(api: Api, caller: Caller, sandboxId: string): Promise<ShownOperation[]> {
  await ownSandbox(api, caller, sandboxId, { deleted: true });
  const operations = await queryOperations(api.database.sql, sandboxId);
  const forks = await getForks(api.database.sql, operations.map(({ id }) => id));
  return operations.map((operation) => shownOperation(operation, forks.get(operation.id)));
}

/**
 * A lifecycle operation as it is now, and again whenever its step or state has changed, until it has ended.
 * @throws TorporError `operation_not_found`, before anything is given.
 */
export async function watchOperation(
  api: Api,
  caller: Caller,
  operationId: string,
  signal: AbortSignal,
): Promise<AsyncGenerator<ShownOperation>> {
  await getOperation(api, caller, operationId);
  const ended = AbortSignal.any([signal, api.stopping]);
  return api.lifecycle.watchOperation(operationId, () => getOperation(api, caller, operationId), ended);
}
