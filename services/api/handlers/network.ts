import type { z } from "zod";
import type { UpdatedNetwork } from "@torpor/lifecycle";
import { type networkPolicy, toNetworkPolicy } from "../inputs/network.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { ownSandbox } from "./running_sandbox.ts";

/**
 * Replaces what a sandbox may reach: of a running one at once, cutting connections that are now denied; of a paused one with
 * its resume.
 * @param prefix of the fields that errors name.
 * @returns confirmed: it is in effect. Else it is recorded, and its host is told until it confirms.
 * @throws TorporError `invalid_argument` with the entry at fault, `sandbox_not_found`, `conflict` when it cannot run any more.
 */
export async function updateNetwork(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof networkPolicy>,
  prefix: string,
): Promise<UpdatedNetwork> {
  await ownSandbox(api, caller, sandboxId);
  return await api.lifecycle.updateNetwork(caller.teamId, sandboxId, toNetworkPolicy(input, prefix));
}
