import type { z } from "zod";
import { listSandboxes as queryPage, type SandboxPage, type SandboxRow } from "@torpor/db";
import type { listSandboxesInput } from "../inputs/sandbox.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { ownSandbox } from "./running_sandbox.ts";

/**
 * One sandbox of the caller's team.
 * @throws TorporError `sandbox_not_found`.
 */
export async function getSandbox(api: Api, caller: Caller, sandboxId: string): Promise<SandboxRow> {
  return await ownSandbox(api, caller, sandboxId);
}

/**
 * A page of the team's sandboxes, newest first.
 * @throws TorporError `invalid_argument` (field `cursor`).
 */
export async function listSandboxes(
  api: Api,
  caller: Caller,
  input: z.output<typeof listSandboxesInput>,
): Promise<SandboxPage> {
  return await queryPage(api.database.sql, caller.teamId, {
    states: input.state,
    metadata: Object.keys(input.metadata).length > 0 ? input.metadata : undefined,
    limit: input.limit,
    cursor: input.cursor,
  });
}
