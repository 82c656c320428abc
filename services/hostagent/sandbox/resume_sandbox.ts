import { TorporError } from "@torpor/errors";
import type { HostContext } from "./context.ts";
import { type NetworkUpdate, recordNetwork } from "./recorded_network.ts";
import { hostError } from "./host_error.ts";
import { removeLiveFiles } from "./live_files.ts";
import { resumeVm } from "./resume_vm.ts";
import { roomForResume } from "./room.ts";
import type { Sandbox } from "./sandbox.ts";

/**
 * Resumes a paused sandbox. Lock held by the caller.
 * @returns how far the guest's clock was behind, milliseconds; undefined when it was running already.
 * @throws TorporError `conflict`, `snapshot_mismatch`, `no_space`, `resume_failed`, and as `resumeVm`: it stays paused.
 */
export async function resumeSandbox(
  context: HostContext,
  sandbox: Sandbox,
  request: { timeoutSec: number; snapshotId: string; network?: NetworkUpdate },
  signal: AbortSignal,
): Promise<number | undefined> {
  const { record } = sandbox;
  const { layout } = context;
  requireNewestSnapshot(sandbox, request.snapshotId);
  if (sandbox.vm) return undefined;
  if (record.state !== "paused" || !record.snapshot_id) {
    throw new TorporError("conflict", `a sandbox that is ${record.state} cannot be resumed`);
  }
  if (request.network) record.network = recordNetwork(request.network);
  try {
    using _room = sandbox.newest && await roomForResume(context, sandbox.newest.manifest);
    const { vm, clockBehindMs } = await resumeVm(context, record, record.snapshot_id, async (vm) => {
      record.vm = vm.record;
      await sandbox.save(layout);
    }, signal);
    sandbox.vm = vm;
    sandbox.touch();
    sandbox.rest("running", "");
    record.timeout_sec = request.timeoutSec;
    record.auto_paused = false;
    return clockBehindMs;
  } catch (thrown) {
    record.vm = null;
    await removeLiveFiles(layout, sandbox.id);
    const error = hostError(thrown, "resume_failed", "the sandbox could not be resumed");
    record.reason = error.code;
    throw error;
  }
}

function requireNewestSnapshot({ record }: Sandbox, snapshotId: string): void {
  if (snapshotId === "" || snapshotId === record.snapshot_id) return;
  throw new TorporError("snapshot_mismatch", `the newest snapshot is ${record.snapshot_id}, not ${snapshotId}`);
}
