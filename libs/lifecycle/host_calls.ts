import type { OperationKind, OperationRow, SandboxRow } from "@torpor/db";
import { asTorporError, type ErrorCode, TorporError } from "@torpor/errors";
import type { SandboxInfo } from "@torpor/proto/hostagent";
import type { HostClient } from "./host_clients.ts";
import type { Held, Outcome } from "./journal.ts";
import { decideOutcome, type HostView, toSnapshotRow } from "./outcome.ts";

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
    if (isAmbiguous(thrown) || held.operation.kind === "delete") throw thrown;
    return await outcomeOfFailure(host, held, asTorporError(thrown));
  }
}

async function call(host: HostClient, { sandbox, operation }: Held): Promise<Outcome> {
  const common = { sandboxId: sandbox.id, operationId: operation.id, version: operation.version };
  const options = { timeoutMs: Math.max(1_000, operation.deadline.getTime() - Date.now()) };
  switch (operation.kind) {
    case "create": {
      const { accelerator } = await host.createSandbox({ ...common, ...requestedSpec(sandbox) }, options);
      return { path: ["running"], changes: { accelerator } };
    }
    case "pause": {
      const { snapshot } = await host.pauseSandbox(common, options);
      if (!snapshot) throw new TorporError("internal", "the host paused the sandbox and named no snapshot");
      return { path: ["paused"], changes: { snapshot: toSnapshotRow(snapshot), accelerator: "" } };
    }
    case "resume": {
      const { accelerator } = await host.resumeSandbox({
        ...common,
        timeoutSec: sandbox.timeoutSec,
        snapshotId: sandbox.snapshot?.id,
      }, options);
      return { path: ["running"], changes: { accelerator } };
    }
    case "delete":
      await host.destroySandbox(common, options);
      return { path: ["deleted"], changes: { accelerator: "" } };
  }
}

function requestedSpec({ template, vcpus, memoryMb, diskSizeMb, timeoutSec, env }: SandboxRow) {
  return { template, vcpus, memoryMb, diskSizeMb, timeoutSec, env };
}

async function outcomeOfFailure(host: HostClient, held: Held, failure: TorporError): Promise<Outcome> {
  const view = await askHost(host, held.operation);
  const error = { code: failure.code, message: failure.message, thrown: failure };
  const outcome = decideOutcome(held.operation.kind as Exclude<OperationKind, "delete">, {
    ...view,
    operation: view.operation === "unknown" ? "failed" : view.operation,
    error,
  });
  if (outcome) return outcome;
  throw new TorporError("unavailable", "the host refused the call and is still at work on the sandbox", {
    cause: failure,
  });
}

/**
 * Asks the host how an operation and its sandbox stand.
 * @throws what the call throws when the host cannot be asked.
 */
export async function askHost(host: HostClient, operation: OperationRow): Promise<HostView> {
  const ids = { sandboxId: operation.sandboxId, operationId: operation.id };
  const answer = await unlessNotFound(() => host.getOperation(ids, { timeoutMs: QUESTION_TIMEOUT_MS }));
  if (!answer) return { operation: "unknown", sandbox: await askForSandbox(host, operation.sandboxId) };
  const failed = answer.state === "failed";
  return {
    operation: failed ? "failed" : answer.state === "succeeded" ? "succeeded" : "running",
    error: failed ? { code: answer.errorCode || "internal", message: answer.errorMessage } : undefined,
    sandbox: answer.sandbox ?? await askForSandbox(host, operation.sandboxId),
  };
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
