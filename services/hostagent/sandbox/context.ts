import type { Span } from "@opentelemetry/api";
import { withSpan } from "@torpor/telemetry";
import type { Jails } from "../confinement/mod.ts";
import type { TrackingMethod } from "../memory/tracking/method.ts";
import type { SharedBases } from "../memory/shared_bases.ts";
import type { Collector } from "../snapshot/collector.ts";
import type { KnownDamage } from "../snapshot/damage.ts";
import type { KeptSnapshots } from "../snapshot/kept.ts";
import type { SnapshotReferences } from "../snapshot/references.ts";
import type { SparePool } from "../spare/spare_pool.ts";
import type { DiskSpace } from "../storage/disk_space.ts";
import type { Images } from "../storage/images.ts";
import type { Layout } from "../storage/layout.ts";
import type { VmNetworks } from "../network/vm_network.ts";
import type { VmmDriver } from "../vmm/driver.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import type { Semaphore } from "./semaphore.ts";

/** What every lifecycle operation needs of its host. */
export interface HostContext {
  layout: Layout;
  driver: VmmDriver;
  images: Images;
  /** Who needs which snapshot: asked before anything of one is removed. */
  references: SnapshotReferences;
  kept: KeptSnapshots;
  /** Gives back space that nothing refers to, and reads what must not be lost: both are told of every change. */
  collector?: Pick<Collector, "soon">;
  /** Room on the disk: asked before much is written. */
  space?: DiskSpace;
  /** The data directory's file system can share blocks between files. */
  reflinks?: boolean;
  /** What verifications have found damaged. */
  damage?: KnownDamage;
  /** What a pause lets the guest do first, for sandboxes that were created without saying so. */
  reclaim: ReclaimCaps;
  /** Directory of the compiled native files. */
  nativeDirectory: string;
  /** How this host finds the pages that a guest has written. */
  tracking: TrackingMethod;
  /** Limits what copies much at once: the pool of blocking native calls has 32 threads, and disks like sequences. */
  copySlots: Semaphore;
  /** A resumed guest's working set is fetched ahead. */
  prefetch: boolean;
  /** What sandboxes that are spawned from one snapshot share, where that is possible. */
  bases?: SharedBases;
  /** What VMMs and pagers run in; absent: as the agent's user. */
  jails?: Jails;
  /** VMMs started ahead; absent: each resume starts its own. */
  spares?: SparePool;
  /** What is behind the guests' network devices; absent: nothing. */
  networks?: VmNetworks;
  /** How long a pause waits for requests to ports that are under way, milliseconds. Default 2,000. */
  portDrainMs?: number;
  /** Called at the begin of each step; what it throws fails the step. Tests use it to make any step fail. */
  onStep?: (step: string, sandboxId: string) => void | Promise<void>;
}

/** Runs one step of an operation as a span of its own. */
export async function step<T>(
  context: HostContext,
  sandboxId: string,
  name: string,
  work: (span: Span) => T | Promise<T>,
): Promise<T> {
  return await withSpan(name, { "torpor.sandbox_id": sandboxId }, async (span) => {
    await context.onStep?.(name, sandboxId);
    return await work(span);
  });
}
