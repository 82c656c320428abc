import type { z } from "zod";
import type { ProcessInfo } from "@torpor/proto/hostagent";
import type { processInput, signalInput } from "../inputs/exec.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

/**
 * The processes that exec started, running and recently ended.
 * @throws TorporError `sandbox_not_found`, `conflict` when the sandbox does not run.
 */
export async function listProcesses(api: Api, caller: Caller, sandboxId: string): Promise<ProcessInfo[]> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  return (await host.rpc.listProcesses({ sandboxId })).processes;
}

/**
 * Writes to the stdin of a process that a stream started with stdin kept open.
 * @throws TorporError `sandbox_not_found`, `conflict`, `process_not_found`.
 */
export async function sendProcessInput(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof processInput>,
): Promise<void> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  // A process that does not read makes this wait: that is back-pressure, up to a minute.
  await host.rpc.sendProcessInput({ sandboxId, ...input }, { timeoutMs: 60_000 });
}

/**
 * Signals the process group of a process.
 * @throws TorporError `sandbox_not_found`, `conflict`, `process_not_found`.
 */
export async function signalProcess(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof signalInput>,
): Promise<void> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  await host.rpc.signalProcess({ sandboxId, ...input });
}
