import { getTeamOperation, listOperations as queryOperations, type OperationRow } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { ownSandbox } from "./running_sandbox.ts";

/**
 * One lifecycle operation of the caller's team.
 * @throws TorporError `operation_not_found`.
 */
export async function getOperation(api: Api, caller: Caller, operationId: string): Promise<OperationRow> {
  const operation = await getTeamOperation(api.database.sql, caller.teamId, operationId);
  if (!operation) throw new TorporError("operation_not_found", `no operation ${operationId}`);
  return operation;
}

/**
 * The journal of a sandbox, newest first, at most 100; also of a deleted one.
 * @throws TorporError `sandbox_not_found`.
 */
export async function listOperations(api: Api, caller: Caller, sandboxId: string): Promise<OperationRow[]> {
  await ownSandbox(api, caller, sandboxId, { deleted: true });
  return await queryOperations(api.database.sql, sandboxId);
}
