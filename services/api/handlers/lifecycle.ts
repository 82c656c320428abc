import type { z } from "zod";
import type { SandboxSpec } from "@torpor/db";
import type { StartedOperation } from "@torpor/lifecycle";
import type { createSandboxInput, resumeSandboxInput } from "../inputs/sandbox.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

/** Options of a call that begins a lifecycle operation. */
export interface BeginOptions {
  /** A repeat with the same key and input returns the first answer. */
  idempotencyKey?: string;
}

/**
 * Begins to create a sandbox. It goes on when the client leaves; await `done` for the running sandbox.
 * @throws TorporError `idempotency_mismatch`; `done` rejects with `no_capacity`, `template_not_found`,
 * `vm_start_failed` …
 */
export async function createSandbox(
  api: Api,
  caller: Caller,
  input: z.output<typeof createSandboxInput>,
  options: BeginOptions = {},
): Promise<StartedOperation> {
  const spec: SandboxSpec = {
    template: input.template,
    vcpus: input.vcpus,
    memoryMb: input.memory_mb,
    diskSizeMb: input.disk_size_mb,
    timeoutSec: input.timeout_sec,
    env: input.env,
    metadata: input.metadata,
    sourceSnapshotId: null,
    reclaim: null,
  };
  return await api.lifecycle.startCreate(caller.teamId, spec, options);
}

/**
 * Begins to save a sandbox to disk, or joins the pause under way.
 * @throws TorporError `sandbox_not_found`, `conflict`, `idempotency_mismatch`; `done` rejects with `pause_failed` …
 */
export async function pauseSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  options: BeginOptions = {},
): Promise<StartedOperation> {
  return await api.lifecycle.startPause(caller.teamId, sandboxId, options);
}

/**
 * Begins to bring a sandbox back, or joins the resume under way.
 * @throws TorporError as {@linkcode pauseSandbox}; `done` rejects with `no_capacity`, `resume_failed`,
 * `snapshot_corrupt` …
 */
export async function resumeSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof resumeSandboxInput>,
  options: BeginOptions = {},
): Promise<StartedOperation> {
  return await api.lifecycle.startResume(caller.teamId, sandboxId, { ...options, timeoutSec: input.timeout_sec });
}

/**
 * Deletes a sandbox, whatever it is doing; repeats are fine.
 * @param wait false: answer as soon as it has begun.
 * @returns confirmed: its host has freed everything. Else the deletion goes on by itself.
 * @throws TorporError `sandbox_not_found` when the team never had it.
 */
export async function deleteSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  wait: boolean,
): Promise<{ confirmed: boolean }> {
  if (wait) return await api.lifecycle.deleteSandbox(caller.teamId, sandboxId);
  const { operation } = await api.lifecycle.startDelete(caller.teamId, sandboxId);
  return { confirmed: operation === undefined };
}

/**
 * Counts as activity: the idle timer of the sandbox starts again.
 * @throws TorporError `sandbox_not_found`, `conflict` when it does not run.
 */
export async function pingSandbox(api: Api, caller: Caller, sandboxId: string): Promise<void> {
  const { host } = await runningSandbox(api, caller, sandboxId);
  await host.rpc.pingSandbox({ sandboxId });
}
