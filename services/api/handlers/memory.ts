import type { GetMemoryStatsResponse } from "@torpor/proto/hostagent";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

/**
 * Where the pages of a running sandbox came from since its resume.
 * @throws TorporError `sandbox_not_found`, `conflict` when the sandbox does not run.
 */
export async function getMemoryStats(api: Api, caller: Caller, sandboxId: string): Promise<GetMemoryStatsResponse> {
  const { host } = await runningSandbox(api, caller, sandboxId, { activity: false });
  return await host.rpc.getMemoryStats({ sandboxId });
}
