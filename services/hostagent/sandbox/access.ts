import type { GuestChannel } from "../guest/channel.ts";
import type { PortConnections } from "../network/ports/port_connections.ts";

/**
 * How RPC handlers and data routes reach the guest of a sandbox. They know nothing of VMs, locks or snapshots.
 *
 * A guest channel belongs to one run of the VM: a pause closes it (every open stream fails with `sandbox_paused`), the
 * next resume opens another one. So a channel is asked for with each request and never kept.
 */
export interface SandboxAccess {
  /**
   * The open channel of a running sandbox, without counting as activity.
   * @throws TorporError `invalid_argument` (no id), `sandbox_not_found`, `conflict` when it is not running,
   *   `no_space` or `io_error` while its guest stands still because of its disk.
   */
  channel(sandboxId: string): Promise<GuestChannel>;

  /**
   * Runs `work` with the channel of a running sandbox and counts it as activity: `last_active_at` is touched when it
   * begins and when it ends, and until then the idle timer does not pause the sandbox.
   * @throws TorporError as {@linkcode SandboxAccess.channel}, and whatever `work` throws.
   */
  use<T>(sandboxId: string, work: (channel: GuestChannel) => Promise<T>): Promise<T>;

  /** The open connections to a running sandbox's ports. @throws TorporError as {@linkcode SandboxAccess.channel}. */
  ports(sandboxId: string): PortConnections;

  /**
   * The environment that the sandbox was created with: it comes before the environment of a call.
   * @throws TorporError `invalid_argument`, `sandbox_not_found`.
   */
  env(sandboxId: string): Record<string, string>;
}
