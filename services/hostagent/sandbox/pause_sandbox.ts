import { isErrorCode, TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import { releaseSnapshots } from "../snapshot/release.ts";
import type { FoundSnapshot } from "../snapshot/sweep.ts";
import { type HostContext, step } from "./context.ts";
import { requireSoundDisk } from "./disk_fault.ts";
import { prepareGuest, thawGuest } from "./guest_hooks.ts";
import { countHooks } from "./hook_metrics.ts";
import { hostError } from "./host_error.ts";
import { pauseVm } from "./pause_vm.ts";
import type { ReclaimCaps } from "./reclaim_caps.ts";
import type { RunningVm } from "./running_vm.ts";
import { removeLiveFiles } from "./live_files.ts";
import { vmShape } from "./resume_vm.ts";
import { roomForPause } from "./room.ts";
import type { Sandbox } from "./sandbox.ts";
import { rememberWorkingSet } from "./working_set.ts";

/** How long a pause waits for requests to ports that are under way, where the host is not told. */
const PORT_DRAIN_MS = 2_000;

/**
 * Pauses a sandbox: snapshot, commit, release of everything that the VM held, release of replaced generations. A paused
 * sandbox stays as it is. Lock held by the caller.
 * @param options.expectResume starts a VMM for the next resume meanwhile.
 * @param options.reclaim what the guest does first; absent: what the sandbox was created with.
 * @throws TorporError `pause_failed`, `no_space` (also, as `io_error`, while the guest stands still for that) and what the VMM reports (the VM runs on); `vm_gone` or `pager_failed`
 *   when the VM vanished before: the newest snapshot is then older than what the caller wants to keep.
 */
export async function pauseSandbox(
  context: HostContext,
  sandbox: Sandbox,
  options: { expectResume: boolean; reclaim?: ReclaimCaps },
  signal: AbortSignal,
): Promise<void> {
  const { vm, record } = sandbox;
  if (!vm) return requirePaused(sandbox);
  requireSoundDisk(vm);
  using _room = await roomForPause(context, vm);
  if (options.expectResume) context.spares?.prepare(vmShape(context, record));
  let snapshot: FoundSnapshot;
  try {
    await drainPorts(context, sandbox.id, vm, signal);
    sandbox.hooks = await prepareGuest(context, sandbox.id, vm, options.reclaim ?? record.reclaim, signal);
    countHooks(sandbox.hooks, record);
    snapshot = await pauseVm(context, record, vm, signal);
  } catch (thrown) {
    await thawGuest(context, sandbox.id, vm);
    throw hostError(thrown, "pause_failed", "the sandbox could not be paused");
  }
  // Committed: from here on nothing may fail the pause, and the VM must not run again.
  const replaced = sandbox.snapshots;
  sandbox.newest = snapshot;
  record.snapshot_id = snapshot.manifest.snapshot_id;
  record.generation = snapshot.manifest.generation;
  sandbox.vm = undefined;
  sandbox.rest("paused", "");
  try {
    await step(context, sandbox.id, "pause.release", () => release(context, sandbox, vm, replaced));
  } catch (error) {
    log("error", "vm_not_released", { sandbox_id: sandbox.id }, error);
  }
}

/** Frees what the VM held. What cannot be freed now is freed at the next start. */
async function release(
  context: HostContext,
  sandbox: Sandbox,
  vm: RunningVm,
  replaced: FoundSnapshot[],
): Promise<void> {
  await vm.closeChannel(pausedError(sandbox.id));
  await rememberWorkingSet(context, sandbox.record, vm);
  await vm[Symbol.asyncDispose]();
  await removeLiveFiles(context.layout, sandbox.id);
  await releaseSnapshots(context.layout, context.references, replaced);
}

/** Lets requests to ports be answered before the guest stands still. */
async function drainPorts(context: HostContext, sandboxId: string, vm: RunningVm, signal: AbortSignal): Promise<void> {
  if (vm.ports.size === 0) return;
  await step(context, sandboxId, "pause.drain_ports", async (span) => {
    span.setAttribute("torpor.connections", vm.ports.size);
    const waitMs = context.portDrainMs ?? PORT_DRAIN_MS;
    span.setAttribute("torpor.connections_cut", await vm.ports.drain(pausedError(sandboxId), waitMs, signal));
  });
}

/** What calls to the guest end with that its pause has cut short. */
function pausedError(sandboxId: string): TorporError {
  return new TorporError("sandbox_paused", `sandbox ${sandboxId} was paused meanwhile`, {
    hint: "its processes go on when it is resumed; a command's output can then be followed by its pid",
  });
}

function requirePaused({ record }: Sandbox): void {
  if (record.state === "paused" && record.reason !== "vm_gone" && record.reason !== "pager_failed") return;
  const code = isErrorCode(record.reason) ? record.reason : "conflict";
  throw new TorporError(code, `the sandbox's VM was gone before it could be paused`, {
    hint: record.state === "paused" ? "resume goes back to its newest snapshot" : "only delete is possible",
  });
}
