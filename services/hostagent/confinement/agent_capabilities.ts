import { keepCapabilities, NativeError } from "@torpor/ffi";
import { log } from "@torpor/telemetry";

/**
 * The capabilities that an agent uses (numbers of linux/capability.h), each with what for. infra/systemd and infra/compose.yaml name the
 * same ones, and a test compares them.
 */
export const AGENT_CAPABILITIES = {
  /** The data directory may be another user's; cgroup directories are closed even to their owner. */
  CAP_DAC_OVERRIDE: 1,
  /** Ends VMMs and pagers, which are other users' processes. */
  CAP_KILL: 5,
  /** Each VMM and each pager runs as a user of its own. */
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  /** They have no bounding set, and so none that they could get back. */
  CAP_SETPCAP: 8,
  /** Namespaces, taps, nftables, routes. */
  CAP_NET_ADMIN: 12,
  /** Joins a root directory that was made for VMMs. */
  CAP_SYS_CHROOT: 18,
  /** Reads guest memory that siblings share, and takes descriptors back from VMMs that an earlier agent has started. */
  CAP_SYS_PTRACE: 19,
  /** Mounts, network namespaces. */
  CAP_SYS_ADMIN: 21,
  /** A pager's faults come before other work. */
  CAP_SYS_NICE: 23,
  /** The /dev of VMMs: a node of /dev/kvm that is open to them. */
  CAP_MKNOD: 27,
} as const;

/**
 * Gives up all other capabilities, of this process and of all that it will start, for good. What it does not have stays missed: a host
 * says by its capabilities what it cannot do.
 */
export function dropCapabilities(): void {
  if (Deno.uid() !== 0) return;
  try {
    keepCapabilities(Object.values(AGENT_CAPABILITIES));
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    // Without CAP_SETPCAP the bounding set stays; what is in force is limited all the same by whoever has taken that one away.
    log("warn", "capabilities_not_dropped", {}, error);
  }
}
