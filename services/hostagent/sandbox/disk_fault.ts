import { scaledTimeoutMs } from "@torpor/config";
import { TorporError } from "@torpor/errors";
import { log } from "@torpor/telemetry";
import { delay } from "../host/delay.ts";
import type { DiskFault } from "../vmm/driver.ts";
import type { HostContext } from "./context.ts";
import type { KeyedLocks } from "./keyed_locks.ts";
import type { RunningVm } from "./running_vm.ts";

/** Between two attempts to let a guest go on: at first, and at most. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;
/** With less than this a guest would be stopped again at once. */
const LEAST_ROOM_BYTES = 4 * 2 ** 20;
/** Calls that were under way when the guest was stopped get so long to see it go on; new ones are refused at once. */
const CALLS_WAIT_MS = scaledTimeoutMs(10_000);

const MESSAGES: Record<DiskFault, string> = {
  no_space: "the host's disk is full, and a write of its guest has met that",
  io_error: "the host's disk has failed a write of its guest",
};

/** What is told to those who need a guest that was stopped by a fault of its disk. */
export function diskFaultError(fault: DiskFault): TorporError {
  return new TorporError(fault, `the sandbox stands still: ${MESSAGES[fault]}`, {
    hint: fault === "no_space"
      ? "it goes on by itself, with nothing lost, when there is room on the host: delete sandboxes or snapshots"
      : "it goes on by itself, with nothing lost, when the write succeeds: see the host's log and its disk",
    retryAfterSec: LONGEST_WAIT_MS / 1000,
  });
}

/** @throws TorporError `no_space`, `io_error` when the guest was stopped by its disk. */
export function requireSoundDisk(vm: RunningVm): void {
  if (vm.vmm.diskFault) throw diskFaultError(vm.vmm.diskFault);
}

/**
 * Lets a guest go on that its VMM has stopped because of a failed write, whenever that can be: the write is then tried
 * again. Returns when somebody lets go of the VM.
 *
 * vCPUs are only ever started under the sandbox's lock: a VM that stands still under an operation must not run.
 */
export async function mindDiskFaults(
  context: HostContext,
  locks: KeyedLocks,
  sandboxId: string,
  vm: RunningVm,
): Promise<void> {
  const over = new AbortController();
  vm.letGo.then(() => over.abort());
  while (!over.signal.aborted) {
    const fault = vm.vmm.diskFault ?? await nextFault(vm, over.signal);
    if (!fault) return;
    const stoppedAt = performance.now();
    log("error", "guest_stopped", { sandbox_id: sandboxId, reason: fault });
    const calls = setInterval(() => endCalls(sandboxId, vm), CALLS_WAIT_MS);
    try {
      await standStill(context, locks, sandboxId, vm, over.signal);
    } finally {
      clearInterval(calls);
    }
    if (over.signal.aborted) return;
    log("info", "guest_goes_on", { sandbox_id: sandboxId, stopped_ms: Math.round(performance.now() - stoppedAt) });
  }
}

/** Returns when the guest has run for a while, or nobody cares any more. */
async function standStill(
  context: HostContext,
  locks: KeyedLocks,
  sandboxId: string,
  vm: RunningVm,
  over: AbortSignal,
): Promise<void> {
  let waitMs = FIRST_WAIT_MS;
  while (vm.vmm.diskFault) {
    if (!await pass(waitMs, over)) return;
    if (vm.vmm.diskFault === "no_space" && !await hasRoom(context)) {
      waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
      continue;
    }
    await tryAgain(locks, sandboxId, vm);
    // What fails again does so at once.
    if (!await pass(FIRST_WAIT_MS, over)) return;
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }
}

/** Starts the vCPUs, unless an operation is under way, which does so itself or ends the VM. */
async function tryAgain(locks: KeyedLocks, sandboxId: string, vm: RunningVm): Promise<void> {
  using lock = locks.tryAcquire(sandboxId);
  if (!lock || vm.disposing || vm.ended || !vm.vmm.diskFault) return;
  try {
    await vm.vmm.startVcpus();
  } catch (error) {
    log("warn", "guest_not_started", { sandbox_id: sandboxId }, error);
  }
}

async function hasRoom({ space }: HostContext): Promise<boolean> {
  return !space || await space.room({ mayUseReserve: true }) >= LEAST_ROOM_BYTES;
}

/** The next fault; undefined when nobody cares any more. */
async function nextFault(vm: RunningVm, over: AbortSignal): Promise<DiskFault | undefined> {
  const found = Promise.withResolvers<DiskFault | undefined>();
  using _listening = vm.vmm.onDiskFault((fault) => fault && found.resolve(fault));
  const end = () => found.resolve(undefined);
  over.addEventListener("abort", end, { once: true });
  try {
    return await found.promise;
  } finally {
    over.removeEventListener("abort", end);
  }
}

/** Their guest may stand still for long; its processes and their output stay. */
function endCalls(sandboxId: string, vm: RunningVm): void {
  const { diskFault } = vm.vmm;
  if (!diskFault || vm.disposing) return;
  vm.closeChannel(diskFaultError(diskFault))
    .catch((error) => log("warn", "channel_not_closed", { sandbox_id: sandboxId }, error));
}

/** Waits. @returns false when nobody cares any more. */
async function pass(ms: number, over: AbortSignal): Promise<boolean> {
  try {
    await delay(ms, over);
  } catch (error) {
    if (!over.aborted) throw error;
  }
  return !over.aborted;
}
