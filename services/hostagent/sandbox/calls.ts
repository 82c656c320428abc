import type { NewSandbox } from "./bring_up.ts";
import type { BootSpec } from "./create_sandbox.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import type { SpawnSpec } from "./spawn_sandbox.ts";

/** What every lifecycle call carries. */
export interface LifecycleCall {
  sandboxId: string;
  /** Empty: an operation of its own. */
  operationId: string;
  /** Fencing token; 0 skips the check. */
  version: number;
}

/** What a new sandbox is to be: booted from a template, or spawned from a kept snapshot. */
export type CreateSpec = Pick<NewSandbox, "timeoutSec" | "env" | "network"> & {
  from: BootSpec | SpawnSpec;
  /** Absent: the deployment's default. */
  reclaim?: ReclaimCaps;
};

/** A kept snapshot that is to be made of a sandbox. */
export interface SnapshotRequest {
  /** Empty: an id of its own. */
  snapshotId: string;
  name: string;
  /** Otherwise the sandbox is paused, and destroyed when the snapshot is there. */
  keepSandbox: boolean;
}
