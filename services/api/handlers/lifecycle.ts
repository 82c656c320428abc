import type { z } from "zod";
import { getOperation, type HookOutcome } from "@torpor/db";
import type { StartedFork, StartedOperation } from "@torpor/lifecycle";
import { toReclaimCaps } from "../inputs/reclaim.ts";
import type { forkSandboxInput, pauseSandboxInput, resumeSandboxInput } from "../inputs/sandbox.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";
import { runningSandbox } from "./running_sandbox.ts";

/** Options of a call that begins a lifecycle operation. */
export interface BeginOptions {
  /** A repeat with the same key and input returns the first answer. */
  idempotencyKey?: string;
}

/**
 * Begins to save a sandbox to disk, or joins the pause under way.
 * @throws TorporError `sandbox_not_found`, `conflict`, `idempotency_mismatch`; `done` rejects with `pause_failed` …
 */
export async function pauseSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof pauseSandboxInput>,
  options: BeginOptions = {},
): Promise<StartedOperation> {
  const reclaim = toReclaimCaps(input.reclaim);
  return await api.lifecycle.startPause(caller.teamId, sandboxId, { ...options, reclaim });
}

/** What a pause that has ended did in the guest; nothing when it was paused already. */
export async function pauseHooks(api: Api, { operation }: StartedOperation): Promise<HookOutcome[]> {
  // Of an operation that another process carries out only the database knows the end.
  const ended = operation?.state === "running" ? await getOperation(api.database.sql, operation.id) : operation;
  return ended?.result.hooks ?? [];
}

/**
 * Begins to make sandboxes that go on where this one is, on its host; it goes on, too. All or none. The fork goes on when
 * the client leaves; a repeat with the same idempotency key gets its answer.
 * @throws TorporError `sandbox_not_found`, `conflict`; `done` rejects with `no_capacity`, what a child failed with.
 */
export async function forkSandbox(
  api: Api,
  caller: Caller,
  sandboxId: string,
  input: z.output<typeof forkSandboxInput>,
  options: BeginOptions = {},
): Promise<StartedFork> {
  const { count, metadata, timeout_sec: timeoutSec } = input;
  return await api.lifecycle.startFork(caller.teamId, sandboxId, { count, metadata, timeoutSec }, options);
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
