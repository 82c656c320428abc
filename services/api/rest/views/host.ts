import { z } from "@hono/zod-openapi";
import type { Host } from "@torpor/proto/scheduler";
import { isoTime } from "./time.ts";

export const hostView = z.object({
  host_id: z.string(),
  name: z.string(),
  state: z.string().openapi({ description: '"ready", "unreachable" or "draining".' }),
  vcpus: z.int(),
  memory_mb: z.int(),
  disk_mb: z.int(),
  reserved_vcpus: z.int(),
  reserved_memory_mb: z.int(),
  reserved_disk_mb: z.int(),
  capabilities: z.array(z.string()),
  last_heartbeat_at: z.iso.datetime(),
  running_sandboxes: z.int(),
  paused_sandboxes: z.int(),
}).openapi("Host");

export const hostListView = z.object({ hosts: z.array(hostView) }).openapi("HostList");

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
    last_heartbeat_at: isoTime(host.lastHeartbeatUnixMs),
    running_sandboxes: host.runningSandboxes,
    paused_sandboxes: host.pausedSandboxes,
  };
}
