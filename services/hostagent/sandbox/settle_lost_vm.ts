import { log } from "@torpor/telemetry";
import { releaseSnapshots } from "../snapshot/release.ts";
import type { HostContext } from "./context.ts";
import { removeLiveFiles } from "./live_files.ts";
import type { Sandbox } from "./sandbox.ts";

/**
 * Takes stock after a VM that ended unasked: what it did since its resume is lost. With a snapshot the sandbox is paused
 * again, without one it has failed; the reason says so in both cases. Lock held by the caller, who saves the record.
 */
export async function settleLostVm(context: HostContext, sandbox: Sandbox): Promise<void> {
  const { vm, record } = sandbox;
  if (!vm) return;
  const { snapshots } = sandbox;
  sandbox.vm = undefined;
  await vm[Symbol.asyncDispose]();
  sandbox.rest(record.snapshot_id ? "paused" : "failed", vm.killedFor ?? "vm_gone");
  // A failed sandbox keeps its disk until it is destroyed: somebody may want to look at it.
  if (record.snapshot_id) await removeLiveFiles(context.layout, sandbox.id);
  try {
    await releaseSnapshots(context.layout, context.references, snapshots);
  } catch (error) {
    log("warn", "snapshots_not_released", { sandbox_id: sandbox.id }, error);
  }
}
