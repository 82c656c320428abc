import type { HookOutcome, OperationRow, SandboxRow } from "@torpor/db";
import { asTorporError, type ErrorCode, TorporError } from "@torpor/errors";
import type { HookOutcome as HostHookOutcome, SandboxInfo } from "@torpor/proto/hostagent";
import { allowedMs } from "./deadlines.ts";
import type { HostClient } from "./host_clients.ts";
import type { Held, Outcome } from "./journal.ts";
import { decideOutcome, decideSnapshot, type HostView, toKeptSizes, toSnapshotRow } from "./outcome.ts";
import { outcomeOnRemovedHost } from "./removed_host.ts";
import { stateAroundSnapshot } from "./states.ts";

/** Questions to a host are answered from memory, ms. */
const QUESTION_TIMEOUT_MS = 10_000;

/** After these the call may or may not have been carried out. */
const AMBIGUOUS: readonly ErrorCode[] = ["unavailable", "deadline_exceeded", "canceled", "host_unreachable"];

/** True when a failed host call may have been carried out all the same. */
export function isAmbiguous(thrown: unknown): boolean {
  return AMBIGUOUS.includes(asTorporError(thrown).code);
}

/**
 * Has the host carry an operation out.
 * @returns what it has come to, also when the host refused or failed: then the host is asked how the sandbox stands.
 * @throws when that is unknown (see {@linkcode isAmbiguous}), or the host is still at it.
 */
export async function carryOut(host: HostClient, held: Held): Promise<Outcome> {
  try {
    return await call(host, held);
  } catch (thrown) {
    const outcome = outcomeOnRemovedHost(held, thrown);
    if (outcome) return outcome;
    if (isAmbiguous(thrown) || held.operation.kind === "delete") throw thrown;
    return await outcomeOfFailure(host, held, asTorporError(thrown));
  }
}

async function call(host: HostClient, { sandbox, operation }: Held): Promise<Outcome> {
  const common = { sandboxId: sandbox.id, operationId: operation.id, version: operation.version };
  const options = { timeoutMs: allowedMs(operation) };
  switch (operation.kind) {
    case "create": {
      const { accelerator } = await host.createSandbox({ ...common, ...requestedSpec(sandbox) }, options);
      return { path: ["running"], changes: { accelerator } };
    }
    case "pause": {
      const { snapshot, hooks } = await host.pauseSandbox({ ...common, reclaim: operation.request.reclaim }, options);
      if (!snapshot) throw new TorporError("internal", "the host paused the sandbox and named no snapshot");
      const changes = { snapshot: toSnapshotRow(snapshot), accelerator: "" };
      return { path: ["paused"], changes, result: { hooks: hooks.map(toHookOutcome) } };
    }
    case "snapshot": {
      const request = { ...common, keepSandbox: true, ...requestedSnapshot(operation) };
      const { snapshot, stoppedUs } = await host.createSnapshot(request, options);
      if (!snapshot) throw new TorporError("internal", "the host took a snapshot and did not describe it");
      return { path: [stateAroundSnapshot(sandbox)], kept: toKeptSizes(snapshot, stoppedUs) };
    }
    case "resume": {
      const { accelerator } = await host.resumeSandbox({
        ...common,
        timeoutSec: sandbox.timeoutSec,
        snapshotId: sandbox.snapshot?.id,
        ...requestedNetwork(sandbox),
      }, options);
      return { path: ["running"], changes: { accelerator } };
    }
    case "delete":
      await host.destroySandbox(common, options);
      return { path: ["deleted"], changes: { accelerator: "" } };
  }
}

function requestedSpec({ template, vcpus, memoryMb, diskSizeMb, timeoutSec, env, ...row }: SandboxRow) {
  const snapshotId = row.sourceSnapshotId ?? undefined;
  const reclaim = row.reclaim ?? undefined;
  return { template, vcpus, memoryMb, diskSizeMb, timeoutSec, env, snapshotId, reclaim, ...requestedNetwork(row) };
}

/** What a sandbox may reach, as each call has it that makes it run. */
export function requestedNetwork({ network, networkRevision }: Pick<SandboxRow, "network" | "networkRevision">) {
  return { network, networkRevision };
}

function requestedSnapshot({ snapshotId, request }: OperationRow) {
  return { snapshotId: snapshotId!, name: request.snapshotName };
}

function toHookOutcome(hook: HostHookOutcome): HookOutcome {
  return {
    step: hook.step,
    outcome: hook.outcome,
    errorNumber: hook.errorNumber,
    durationUs: Number(hook.durationUs),
    bytesTrimmed: Number(hook.bytesTrimmed),
    freeBytesBefore: Number(hook.freeBytesBefore),
    freeBytesAfter: Number(hook.freeBytesAfter),
  };
}

async function outcomeOfFailure(host: HostClient, held: Held, failure: TorporError): Promise<Outcome> {
  const view = await askHost(host, held.operation);
  const error = { code: failure.code, message: failure.message, thrown: failure };
  const outcome = outcomeByHost(held, {
    ...view,
    operation: view.operation === "unknown" ? "failed" : view.operation,
    error,
  });
  if (outcome) return outcome;
  throw new TorporError("unavailable", "the host refused the call and is still at work on the sandbox", {
    cause: failure,
  });
}

/** What an operation other than a delete has come to, by what the host says; undefined while it is still at work. */
export function outcomeByHost({ sandbox, operation }: Held, view: HostView): Outcome | undefined {
  if (operation.kind === "snapshot") return decideSnapshot(stateAroundSnapshot(sandbox), view);
  if (operation.kind !== "delete") return decideOutcome(operation.kind, view);
  throw new TorporError("internal", "a delete is repeated, not judged");
}

/**
 * Asks the host how an operation and its sandbox stand.
 * @throws what the call throws when the host cannot be asked.
 */
export async function askHost(host: HostClient, operation: OperationRow): Promise<HostView> {
  const ids = { sandboxId: operation.sandboxId, operationId: operation.id };
  const answer = await unlessNotFound(() => host.getOperation(ids, { timeoutMs: QUESTION_TIMEOUT_MS }));
  // Asked after the operation: what it has finished before is listed.
  const kept = operation.kind === "snapshot" ? await askForSnapshot(host, operation.snapshotId!) : undefined;
  if (!answer) return { operation: "unknown", sandbox: await askForSandbox(host, operation.sandboxId), kept };
  const failed = answer.state === "failed";
  return {
    operation: failed ? "failed" : answer.state === "succeeded" ? "succeeded" : "running",
    error: failed ? { code: answer.errorCode || "internal", message: answer.errorMessage } : undefined,
    sandbox: answer.sandbox ?? await askForSandbox(host, operation.sandboxId),
    kept,
  };
}

async function askForSnapshot(host: HostClient, snapshotId: string) {
  const { snapshots } = await host.listSnapshots({}, { timeoutMs: QUESTION_TIMEOUT_MS });
  const info = snapshots.find(({ snapshot }) => snapshot?.snapshotId === snapshotId)?.snapshot;
  return info && toKeptSizes(info, 0n);
}

async function askForSandbox(host: HostClient, sandboxId: string): Promise<SandboxInfo | undefined> {
  const answer = await unlessNotFound(() => host.getSandbox({ sandboxId }, { timeoutMs: QUESTION_TIMEOUT_MS }));
  return answer?.sandbox;
}

async function unlessNotFound<T>(call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (thrown) {
    if (asTorporError(thrown).httpStatus === 404) return undefined;
    throw thrown;
  }
}
