import type { ErrorCode } from "@torpor/errors";
import { removeIfPresent } from "../storage/durable_file.ts";
import type { HostContext } from "./context.ts";
import { hostError } from "./host_error.ts";
import { type OperationRecord, RECORD_SCHEMA, type SandboxRecord } from "./record.ts";
import { DEFAULT_NETWORK, type NetworkUpdate, recordNetwork } from "./recorded_network.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import type { RunningVm } from "./running_vm.ts";
import { Sandbox } from "./sandbox.ts";

/** What decides how a sandbox's VM looks to its guest. */
export interface SandboxShape {
  template: string;
  vcpus: number;
  memoryMb: number;
  diskSizeMb: number;
  /** Content hash of the base image. */
  baseImage: string;
  /** The kept snapshot that it is spawned from. */
  baseSnapshotId?: string;
}

/** A sandbox that is to be brought up: its call, its operation, and what does not depend on where it comes from. */
export interface NewSandbox {
  sandboxId: string;
  version: number;
  timeoutSec: number;
  env: Record<string, string>;
  reclaim: ReclaimCaps;
  /** Absent: it may reach everything but what no sandbox may. */
  network?: NetworkUpdate;
  operation: OperationRecord;
}

/** How the manager follows a creation. */
export interface CreateEvents {
  began(sandbox: Sandbox): void;
  failed(sandbox: Sandbox): void;
  running(sandbox: Sandbox): void;
}

/** Makes the VM of a new sandbox run. @param onStarted records the processes before the guest runs. */
export type StartVm = (record: SandboxRecord, onStarted: (vm: RunningVm) => Promise<void>) => Promise<RunningVm>;

/**
 * Creates a sandbox's record and directory and lets `start` make its VM run. On failure nothing of the sandbox is left; an
 * agent that is killed meanwhile leaves a record from which its successor removes everything.
 * @param failure the error code of what is no TorporError.
 */
export async function bringUpSandbox(
  context: HostContext,
  wanted: NewSandbox,
  shape: SandboxShape,
  start: StartVm,
  events: CreateEvents,
  failure: ErrorCode,
): Promise<Sandbox> {
  const { layout } = context;
  const sandbox = new Sandbox(newRecord(wanted, shape));
  const { record } = sandbox;
  events.began(sandbox);
  try {
    await Deno.mkdir(layout.sandbox(sandbox.id).directory, { recursive: true, mode: 0o700 });
    await sandbox.save(layout);
    sandbox.vm = await start(record, async (vm) => {
      record.vm = vm.record;
      await sandbox.save(layout);
    });
    sandbox.touch();
    wanted.operation.state = "succeeded";
    sandbox.rest("running", "");
    await sandbox.save(layout);
    sandbox.interrupt = undefined;
    events.running(sandbox);
    return sandbox;
  } catch (thrown) {
    await sandbox.vm?.[Symbol.asyncDispose]();
    sandbox.vm = undefined;
    await removeIfPresent(layout.sandbox(sandbox.id).directory);
    events.failed(sandbox);
    throw hostError(thrown, failure, "the sandbox could not be created");
  }
}

function newRecord(wanted: NewSandbox, shape: SandboxShape): SandboxRecord {
  return {
    schema: RECORD_SCHEMA,
    revision: 0,
    sandbox_id: wanted.sandboxId,
    template: shape.template,
    vcpus: shape.vcpus,
    memory_mb: shape.memoryMb,
    disk_size_mb: shape.diskSizeMb,
    timeout_sec: wanted.timeoutSec,
    env: wanted.env,
    reclaim: wanted.reclaim,
    network: wanted.network ? recordNetwork(wanted.network) : DEFAULT_NETWORK,
    base_image: shape.baseImage,
    created_at_ms: Date.now(),
    last_active_at_ms: Date.now(),
    version: wanted.version,
    state: "new",
    reason: "",
    operation: wanted.operation,
    snapshot_id: null,
    generation: 0,
    base_snapshot_id: shape.baseSnapshotId ?? null,
    auto_paused: false,
    vm: null,
  };
}
