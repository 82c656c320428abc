import type { ServiceImpl } from "@connectrpc/connect";
import { requireId } from "@torpor/ids";
import type { CreateSandboxRequest, NetworkPolicy, ReclaimCaps, SandboxService } from "@torpor/proto/torpor";
import type { Api } from "../handlers/api.ts";
import { createSandbox } from "../handlers/create_sandbox.ts";
import {
  deleteSandbox,
  forkSandbox,
  pauseHooks,
  pauseSandbox,
  pingSandbox,
  resumeSandbox,
} from "../handlers/lifecycle.ts";
import { updateNetwork } from "../handlers/network.ts";
import { getSandbox, listSandboxes } from "../handlers/sandboxes.ts";
import { checkpointSandbox, inspectSandbox } from "../handlers/snapshots.ts";
import { networkPolicy } from "../inputs/network.ts";
import { parseInput } from "../inputs/parse.ts";
import {
  createSandboxInput,
  forkSandboxInput,
  listSandboxesInput,
  pauseSandboxInput,
  resumeSandboxInput,
} from "../inputs/sandbox.ts";
import { checkpointInput } from "../inputs/snapshot.ts";
import { callerOf } from "./gate.ts";
import { keyOf } from "./idempotency_key.ts";
import { hookMessage, sandboxMessage, snapshotMessage, stateName, trafficTokenOf } from "./messages.ts";
import { contentsMessage } from "./snapshots.ts";

/** The methods about sandboxes and their lifecycle. A number that is 0 was not given. */
export function sandboxMethods(api: Api) {
  return {
    async createSandbox(request, context) {
      const input = parseInput(createSandboxInput, {
        snapshot: request.snapshot || undefined,
        template: request.template || undefined,
        vcpus: request.vcpus || undefined,
        memory_mb: request.memoryMb || undefined,
        disk_size_mb: request.diskSizeMb || undefined,
        timeout_sec: request.timeoutSec,
        auto_delete_after_sec: request.autoDeleteAfterSec,
        ttl_sec: request.ttlSec,
        on_ttl: request.onTtl || undefined,
        env: request.env,
        metadata: request.metadata,
        reclaim: reclaimOf(request),
        auto_resume: request.autoResume,
        network: networkAtCreation(request),
        host_labels: Object.keys(request.hostLabels).length > 0 ? request.hostLabels : undefined,
        required_capabilities: request.requiredCapabilities.length > 0 ? request.requiredCapabilities : undefined,
      });
      const started = await createSandbox(api, callerOf(context), input, keyOf(request));
      const sandbox = await started.done;
      return { sandbox: sandboxMessage(sandbox), trafficAccessToken: trafficTokenOf(sandbox) };
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
      const input = parseInput(pauseSandboxInput, { reclaim: reclaimOf(request) });
      const started = await pauseSandbox(api, callerOf(context), sandboxId, input, keyOf(request));
      const sandbox = sandboxMessage(await started.done);
      return { sandbox, hooks: (await pauseHooks(api, started)).map(hookMessage) };
    },

    async resumeSandbox(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const input = parseInput(resumeSandboxInput, { timeout_sec: request.timeoutSec });
      const started = await resumeSandbox(api, callerOf(context), sandboxId, input, keyOf(request));
      const sandbox = await started.done;
      return { sandbox: sandboxMessage(sandbox), trafficAccessToken: trafficTokenOf(sandbox) };
    },

    async forkSandbox(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const input = parseInput(forkSandboxInput, {
        count: request.count || undefined,
        metadata: Object.keys(request.metadata).length > 0 ? request.metadata : undefined,
        timeout_sec: request.timeoutSec,
      });
      const started = await forkSandbox(api, callerOf(context), sandboxId, input, keyOf(request));
      const { source, children, snapshot } = await started.done;
      return {
        source: sandboxMessage(source),
        children: children.map(sandboxMessage),
        stoppedUs: snapshot.sizes?.stoppedUs,
      };
    },

    async checkpointSandbox(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const input = parseInput(checkpointInput, { expires_in_sec: request.expiresInSec });
      const started = await checkpointSandbox(api, callerOf(context), sandboxId, input, keyOf(request));
      return { snapshot: snapshotMessage(await started.done, callerOf(context)) };
    },

    async inspectSandbox(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const contents = await inspectSandbox(api, callerOf(context), sandboxId, request.verify);
      return { contents: contentsMessage(contents) };
    },

    async updateNetwork(request, context) {
      const sandboxId = requireId(request.sandboxId, "sandbox_id");
      const input = parseInput(networkPolicy, networkOf(request) ?? {});
      const { sandbox, confirmed } = await updateNetwork(api, callerOf(context), sandboxId, input, "network.");
      return { sandbox: sandboxMessage(sandbox), confirmed };
    },

    async pingSandbox(request, context) {
      await pingSandbox(api, callerOf(context), requireId(request.sandboxId, "sandbox_id"));
      return {};
    },
  } satisfies Partial<ServiceImpl<typeof SandboxService>>;
}

function networkOf({ network }: { network?: NetworkPolicy }) {
  return network && {
    allow_internet_access: network.allowInternetAccess,
    allow_out: network.allowOut,
    deny_out: network.denyOut,
  };
}

function networkAtCreation(request: CreateSandboxRequest) {
  const allow_public_traffic = request.allowPublicTraffic;
  return request.network || allow_public_traffic !== undefined
    ? { ...networkOf(request), allow_public_traffic }
    : undefined;
}

function reclaimOf({ reclaim }: { reclaim?: ReclaimCaps }) {
  return reclaim && {
    fstrim_ms: reclaim.fstrimMs,
    sync_ms: reclaim.syncMs,
    drop_caches_ms: reclaim.dropCachesMs,
    compact_memory_ms: reclaim.compactMemoryMs,
  };
}
