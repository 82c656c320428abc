import { z } from "@hono/zod-openapi";
import type { GetHostResponse, Host } from "@torpor/proto/scheduler";
import { isoTime } from "./time.ts";

export const hostView = z.object({
  host_id: z.string(),
  name: z.string(),
  state: z.string().openapi({ description: '"ready", "cordoned", "draining" or "unreachable".' }),
  vcpus: z.int(),
  memory_mb: z.int(),
  disk_mb: z.int(),
  reserved_vcpus: z.int(),
  reserved_memory_mb: z.int(),
  reserved_disk_mb: z.int(),
  capabilities: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  last_heartbeat_at: z.iso.datetime(),
  running_sandboxes: z.int(),
  paused_sandboxes: z.int(),
}).openapi("Host");

export const hostListView = z.object({ hosts: z.array(hostView) }).openapi("HostList");

export const hostDetailView = hostView.extend({
  sandboxes: z.int().openapi({ description: "Sandboxes that are not deleted." }),
  snapshots: z.int().openapi({ description: "Snapshots of their own that are not deleted." }),
  active_sandboxes: z.int().openapi({ description: "Those that run: what a drain still has to pause." }),
}).openapi("HostDetail");

export const hostTokenView = z.object({
  token: z.string().openapi({ description: "TORPOR_HOST_TOKEN of the new host." }),
  expires_at: z.iso.datetime(),
}).openapi("HostToken");

export const removedHostView = z.object({
  host_id: z.string(),
  sandboxes: z.int(),
  snapshots: z.int(),
}).openapi("RemovedHost");

/** A host with what it holds. */
export function viewHostDetail(
  { host, sandboxes, snapshots, activeSandboxes }: GetHostResponse,
): z.input<typeof hostDetailView> {
  return { ...viewHost(host!), sandboxes, snapshots, active_sandboxes: activeSandboxes };
}

/** A host. Its address is the control plane's business and is not shown. */
export function viewHost(host: Host): z.input<typeof hostView> {
  return {
    host_id: host.hostId,
    name: host.name,
    state: host.state,
    vcpus: host.capacity?.vcpus ?? 0,
    memory_mb: Number(host.capacity?.memoryMb ?? 0),
    disk_mb: Number(host.capacity?.diskMb ?? 0),
    reserved_vcpus: host.reserved?.vcpus ?? 0,
    reserved_memory_mb: Number(host.reserved?.memoryMb ?? 0),
    reserved_disk_mb: Number(host.reserved?.diskMb ?? 0),
    capabilities: host.capabilities,
    labels: host.labels,
    last_heartbeat_at: isoTime(host.lastHeartbeatUnixMs),
    running_sandboxes: host.runningSandboxes,
    paused_sandboxes: host.pausedSandboxes,
  };
}
