import type { ServiceImpl } from "@connectrpc/connect";
import { requireId } from "@torpor/ids";
import type { SandboxService } from "@torpor/proto/torpor";
import type { Api } from "../handlers/api.ts";
import {
  type BeginOptions,
  createSandbox,
  deleteSandbox,
  pauseSandbox,
  pingSandbox,
  resumeSandbox,
} from "../handlers/lifecycle.ts";
import { getSandbox, listSandboxes } from "../handlers/sandboxes.ts";
import { parseInput } from "../inputs/parse.ts";
import { createSandboxInput, idempotencyInput, listSandboxesInput, resumeSandboxInput } from "../inputs/sandbox.ts";
import { callerOf } from "./gate.ts";
import { sandboxMessage, stateName } from "./messages.ts";

/** The methods about sandboxes and their lifecycle. A number that is 0 was not given. */
export function sandboxMethods(api: Api) {
  return {
    async createSandbox(request, context) {
      const input = parseInput(createSandboxInput, {
        template: request.template || undefined,
        vcpus: request.vcpus || undefined,
        memory_mb: request.memoryMb || undefined,
        disk_size_mb: request.diskSizeMb || undefined,
        timeout_sec: request.timeoutSec,
        env: request.env,
        metadata: request.metadata,
      });
      const started = await createSandbox(api, callerOf(context), input, keyOf(request));
      return { sandbox: sandboxMessage(await started.done) };
    },

    async getSandbox(request, context) {
      const sandbox = await getSandbox(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"));
      return { sandbox: sandboxMessage(sandbox) };
    },

    async listSandboxes(request, context) {
      const input = parseInput(listSandboxesInput, {
        state: request.states.map(stateName),
        metadata: request.metadata,
        limit: request.pageSize || undefined,
        cursor: request.cursor,
      });
      const page = await listSandboxes(api, callerOf(context), input);
      return { sandboxes: page.sandboxes.map(sandboxMessage), nextCursor: page.nextCursor };
    },

    async deleteSandbox(request, context) {
      return await deleteSandbox(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"), true);
    },

    async pauseSandbox(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const started = await pauseSandbox(api, callerOf(context), sandboxId, keyOf(request));
      return { sandbox: sandboxMessage(await started.done) };
    },

    async resumeSandbox(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const input = parseInput(resumeSandboxInput, { timeout_sec: request.timeoutSec });
      const started = await resumeSandbox(api, callerOf(context), sandboxId, input, keyOf(request));
      return { sandbox: sandboxMessage(await started.done) };
    },

    async pingSandbox(request, context) {
      await pingSandbox(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"));
      return {};
    },
  } satisfies Partial<ServiceImpl<typeof SandboxService>>;
}

function keyOf(request: { idempotencyKey: string }): BeginOptions {
  if (request.idempotencyKey === "") return {};
  const { idempotency_key } = parseInput(idempotencyInput, { idempotency_key: request.idempotencyKey });
  return { idempotencyKey: idempotency_key };
}
