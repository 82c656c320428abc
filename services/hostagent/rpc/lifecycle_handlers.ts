import type { ServiceImpl } from "@connectrpc/connect";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import type { HostAgentService } from "@torpor/proto/hostagent";
import { ChangeLog } from "../sandbox/change_log.ts";
import type { SandboxManager } from "../sandbox/manager.ts";
import { chooseListing } from "./list_sandboxes.ts";
import { memoryStats } from "./memory_stats.ts";
import { hookOutcome, inventoryStamp, sandboxInfo, snapshotInfo } from "./sandbox_info.ts";
import { createSpec, fencedCall, lifecycleCall, networkUpdate, reclaimCaps, timeoutSec } from "./validate.ts";

type LifecycleMethods =
  | "createSandbox"
  | "destroySandbox"
  | "pauseSandbox"
  | "resumeSandbox"
  | "listSandboxes"
  | "getSandbox"
  | "getOperation"
  | "getMemoryStats"
  | "updateNetwork"
  | "pingSandbox";

/** The RPCs about sandboxes as a whole. Once begun, an operation goes on when its caller leaves. */
export function lifecycleHandlers(
  manager: SandboxManager,
  hostId: string,
): Pick<ServiceImpl<typeof HostAgentService>, LifecycleMethods> {
  const changes = new ChangeLog();
  return {
    async createSandbox(request) {
      const call = lifecycleCall({ ...request, sandboxId: request.sandboxId || newId() });
      const sandbox = await manager.create(call, createSpec(request));
      return { sandboxId: sandbox.id, status: sandbox.status, accelerator: sandbox.vm?.accelerator ?? "" };
    },

    async destroySandbox(request) {
      await manager.destroy(lifecycleCall(request));
      return {};
    },

    async pauseSandbox(request) {
      const { newest, hooks } = await manager.pause(lifecycleCall(request), "pause", reclaimCaps(request.reclaim));
      return { snapshot: newest && snapshotInfo(newest.manifest), hooks: hooks.map(hookOutcome) };
    },

    async resumeSandbox(request) {
      const { sandbox, clockBehindMs } = await manager.resume(lifecycleCall(request), {
        timeoutSec: timeoutSec(request.timeoutSec),
        snapshotId: request.snapshotId,
        network: networkUpdate(request),
      });
      return {
        sandboxId: sandbox.id,
        status: sandbox.status,
        accelerator: sandbox.vm?.accelerator ?? "",
        clockBehindMs: BigInt(Math.round(clockBehindMs)),
      };
    },

    async listSandboxes(request) {
      await manager.acknowledgeAutoPaused(request.acknowledgedAutoPausedIds);
      const sandboxes = new Map(manager.list().map((sandbox) => [sandbox.id, sandbox]));
      changes.observe(sandboxes.values(), (sandbox) => [sandbox.id, inventoryStamp(sandbox)]);
      const { ids, ...listing } = chooseListing(request, sandboxes, changes);
      const autoPausedSandboxIds = manager.list().filter(({ record }) => record.auto_paused).map(({ id }) => id);
      const listed = new Set([...ids, ...autoPausedSandboxIds]);
      return {
        ...listing,
        hostId,
        sandboxes: [...listed].map((id) => sandboxInfo(sandboxes.get(id)!)),
        autoPausedSandboxIds,
      };
    },

    async getSandbox({ sandboxId }) {
      return { sandbox: sandboxInfo(manager.get(sandboxId)) };
    },

    async getOperation({ sandboxId, operationId }) {
      const { state, error, sandbox } = manager.operation(sandboxId, operationId);
      return {
        state,
        errorCode: error?.code ?? "",
        errorMessage: error?.message ?? "",
        sandbox: sandbox && sandboxInfo(sandbox),
      };
    },

    async getMemoryStats({ sandboxId }) {
      const { vm, status } = manager.get(sandboxId);
      if (!vm) throw new TorporError("conflict", `sandbox ${sandboxId} is ${status}`);
      return memoryStats(vm);
    },

    async updateNetwork(request) {
      const update = networkUpdate(request);
      if (!update) throw new TorporError("invalid_argument", "network is missing", { field: "network" });
      return { networkRevision: BigInt(await manager.updateNetwork(fencedCall(request), update)) };
    },

    async pingSandbox({ sandboxId }) {
      manager.ping(sandboxId);
      return {};
    },
  };
}
