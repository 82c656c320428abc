import { z } from "zod";
import { homePaths, readConfig, torporHome } from "@torpor/config";
import { formatAddress, parseAddress } from "@torpor/rpc";
import { parseResolvers } from "./network/dns/mod.ts";
import { DEFAULT_LIMITS } from "./network/policy/limits.ts";
import { DEFAULT_CIDR, type NetworkSettings, parseSlotCidr } from "./network/mod.ts";
import type { DiskLimits } from "./vmm/qemu/command_line.ts";
import { type TrackingMethod, trackingMethods } from "./memory/tracking/method.ts";
import { MAX_RECLAIM_CAP_MS, type ReclaimCaps } from "./sandbox/reclaim_caps.ts";

/** Above the users that systems and container engines give out by themselves. */
export const DEFAULT_VMM_USER_BASE = 700_000;

/** Configuration of a host agent. */
export interface HostAgentConfig {
  home: string;
  /** Where built images are. Default: below `home`, or $TORPOR_CACHE. */
  cache?: string;
  /** Directory of the compiled native files. */
  nativeDirectory: string;
  /** Address to listen on. */
  listen: string;
  /** Address that the control plane uses. Default: the one it listens on. */
  hostAddress?: string;
  internalToken?: string;
  /** One-time token by which the host gets its first certificate; needed with `https:` addresses. */
  hostToken?: string;
  /** What the host is called; by default its host name. */
  hostName?: string;
  /** What placements can ask for. */
  hostLabels?: Record<string, string>;
  /** Absent: the host registers nowhere. */
  schedulerUrl?: string;
  heartbeatIntervalMs: number;
  /** Forces an accelerator instead of probing. */
  accelerator?: "kvm" | "tcg";
  /** What a pause lets the guest do first, for sandboxes that were created without saying so. Default: nothing. */
  reclaim?: ReclaimCaps;
  /** Between two collections of snapshot data in the background. Default: only when asked. */
  collectIntervalMs?: number;
  /** What must stay free of the data directory's file system but for pauses, MiB. Default: nothing. */
  diskReserveMb?: number;
  /** Between two verifications of all snapshot data in the background, ms. Default: only when asked. */
  verifyIntervalMs?: number;
  /** What they read at most. Default: no limit. */
  verifyBytesPerSecond?: number;
  /** How written pages are found. Default `auto`: the best way that works. */
  dirtyTracking?: TrackingMethod | "auto";
  /** Sandboxes that are spawned from one snapshot share what they do not write, where kernel and VMM can; default true. */
  sharedBase?: boolean;
  /**
   * The first of the 65,536 users that VMMs and pagers run as, one each; 0: they run as the agent's. Default 700000.
   */
  vmmUserBase?: number;
  /** What each sandbox's disk may do at most. Default: no limit. */
  diskLimits?: DiskLimits;
  /** Keeps one VMM started ahead for the next resume. */
  spareVmm: boolean;
  /** Absent: guests have no network. */
  network?: NetworkSettings;
  /** How long a pause waits for requests to ports that are under way, milliseconds. Default 2,000. */
  portDrainMs?: number;
  /** Fetches a resumed guest's working set ahead. */
  prefetch: boolean;
}

/**
 * Reads the configuration from the environment (docs/development.md).
 * @throws TorporError `config_invalid`.
 */
export function readHostAgentConfig(): HostAgentConfig {
  const env = readConfig({
    TORPOR_LISTEN: z.string().optional(),
    TORPOR_HOST_ADDRESS: z.string().optional(),
    TORPOR_INTERNAL_TOKEN: z.string().optional(),
    TORPOR_HOST_TOKEN: z.string().optional(),
    TORPOR_HOST_NAME: z.string().optional(),
    TORPOR_HOST_LABELS: z.string().default("").transform(readLabels),
    TORPOR_SCHEDULER_URL: z.string().optional(),
    TORPOR_LIB_DIR: z.string().optional(),
    TORPOR_HEARTBEAT_INTERVAL_MS: z.coerce.number().int().min(100).max(60_000).default(2000),
    TORPOR_ACCEL: z.enum(["kvm", "tcg"]).optional(),
    TORPOR_PREFETCH: z.enum(["on", "off"]).default("on"),
    TORPOR_RECLAIM_FSTRIM_MS: reclaimCap(),
    TORPOR_RECLAIM_SYNC_MS: reclaimCap(),
    TORPOR_RECLAIM_DROP_CACHES_MS: reclaimCap(),
    TORPOR_RECLAIM_COMPACT_MEMORY_MS: reclaimCap(),
    TORPOR_COLLECT_INTERVAL_MS: z.coerce.number().int().min(0).max(86_400_000).default(600_000),
    TORPOR_DISK_RESERVE_MB: z.coerce.number().int().min(0).default(1024),
    TORPOR_VERIFY_INTERVAL_MS: z.coerce.number().int().min(0).max(2_000_000_000).default(86_400_000),
    TORPOR_VERIFY_BYTES_PER_SECOND: z.coerce.number().int().min(65_536).default(32 * 2 ** 20),
    TORPOR_DIRTY_TRACKING: z.enum(["auto", ...trackingMethods]).default("auto"),
    TORPOR_SHARED_BASE: z.enum(["on", "off"]).default("on"),
    TORPOR_PORT_DRAIN_MS: z.coerce.number().int().min(0).max(60_000).default(2_000),
    TORPOR_VMM_UID_BASE: z.coerce.number().int().min(0).max(2 ** 31 - 2 ** 16).default(DEFAULT_VMM_USER_BASE),
    TORPOR_DISK_IOPS: z.coerce.number().int().min(0).max(10_000_000).default(0),
    TORPOR_DISK_MBPS: z.coerce.number().int().min(0).max(1_000_000).default(0),
    TORPOR_SPARE_VMM: z.enum(["on", "off"]).default("on"),
    TORPOR_NETWORK: z.enum(["on", "off"]).optional(),
    TORPOR_NETWORK_CIDR: z.string().default(DEFAULT_CIDR).transform(parseSlotCidr),
    TORPOR_NETWORK_POOL: z.coerce.number().int().min(0).max(256).default(4),
    TORPOR_NETWORK_RATE_MBIT: z.coerce.number().int().min(0).max(1_000_000).default(DEFAULT_LIMITS.rateMbit),
    TORPOR_NETWORK_CONNECTIONS: z.coerce.number().int().min(0).max(1_000_000).default(DEFAULT_LIMITS.connections),
    TORPOR_DNS: z.string().optional().transform(parseResolvers),
  });
  const home = torporHome();
  const paths = homePaths(home);
  const listen = env.TORPOR_LISTEN ?? `unix:${paths.run}/hostagent.sock`;
  return {
    home,
    nativeDirectory: env.TORPOR_LIB_DIR ?? paths.native,
    listen: formatAddress(parseAddress(listen)),
    hostAddress: env.TORPOR_HOST_ADDRESS,
    internalToken: env.TORPOR_INTERNAL_TOKEN,
    hostToken: env.TORPOR_HOST_TOKEN || undefined,
    hostName: env.TORPOR_HOST_NAME || undefined,
    hostLabels: env.TORPOR_HOST_LABELS,
    schedulerUrl: env.TORPOR_SCHEDULER_URL,
    heartbeatIntervalMs: env.TORPOR_HEARTBEAT_INTERVAL_MS,
    accelerator: env.TORPOR_ACCEL,
    prefetch: env.TORPOR_PREFETCH === "on",
    reclaim: {
      fstrim_ms: env.TORPOR_RECLAIM_FSTRIM_MS,
      sync_ms: env.TORPOR_RECLAIM_SYNC_MS,
      drop_caches_ms: env.TORPOR_RECLAIM_DROP_CACHES_MS,
      compact_memory_ms: env.TORPOR_RECLAIM_COMPACT_MEMORY_MS,
    },
    collectIntervalMs: env.TORPOR_COLLECT_INTERVAL_MS,
    diskReserveMb: env.TORPOR_DISK_RESERVE_MB,
    verifyIntervalMs: env.TORPOR_VERIFY_INTERVAL_MS,
    verifyBytesPerSecond: env.TORPOR_VERIFY_BYTES_PER_SECOND,
    dirtyTracking: env.TORPOR_DIRTY_TRACKING,
    sharedBase: env.TORPOR_SHARED_BASE === "on",
    portDrainMs: env.TORPOR_PORT_DRAIN_MS,
    vmmUserBase: env.TORPOR_VMM_UID_BASE,
    diskLimits: { iops: env.TORPOR_DISK_IOPS, megabytesPerSecond: env.TORPOR_DISK_MBPS },
    spareVmm: env.TORPOR_SPARE_VMM === "on",
    network: {
      mode: env.TORPOR_NETWORK,
      cidr: env.TORPOR_NETWORK_CIDR,
      dns: env.TORPOR_DNS,
      pool: env.TORPOR_NETWORK_POOL,
      limits: { rateMbit: env.TORPOR_NETWORK_RATE_MBIT, connections: env.TORPOR_NETWORK_CONNECTIONS },
    },
  };
}

/** `name=value,name=value`. */
function readLabels(text: string, context: z.RefinementCtx): Record<string, string> {
  const entries = text.split(",").filter((entry) => entry !== "").map((entry) => entry.split("="));
  const odd = entries.some(([name, value, ...more]) => !name || value === undefined || more.length > 0);
  if (odd) context.addIssue({ code: "custom", message: "must be name=value,name=value" });
  return Object.fromEntries(odd ? [] : entries);
}

function reclaimCap() {
  return z.coerce.number().int().min(0).max(MAX_RECLAIM_CAP_MS).default(0);
}
