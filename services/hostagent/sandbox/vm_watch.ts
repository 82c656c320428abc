import type { ExitStatus } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { delay } from "../host/delay.ts";
import { describeExit } from "../vmm/process.ts";
import type { RunningVm } from "./running_vm.ts";

/** A pager ends by itself when its VM is gone; the VM's own end is seen within this time. */
const VM_EXIT_GRACE_MS = 1_000;

/** What is done about a pager that is gone. */
export interface PagerCare {
  /** Starts another one if it was killed; false when it gave up by itself, or when that is not possible. */
  succeed(): Promise<boolean>;
  /** There is another one now. */
  succeeded(): void;
}

/**
 * Waits for the end of a VM, or until the agent lets go of it. A pager that was killed gets a successor. A VM whose pager
 * gave up, or that can have no other, is killed: its next page fault would wait for ever.
 * @returns true when nobody asked for the end.
 */
export async function watchVm(sandboxId: string, vm: RunningVm, care: PagerCare): Promise<boolean> {
  watchPager(sandboxId, vm, care);
  const exit = await Promise.race([vm.vmm.process.exited, vm.letGo]);
  if (vm.disposing || !exit) return false;
  log("error", "vm_gone", { sandbox_id: sandboxId, exit: describeExit(exit), killed_for: vm.killedFor });
  return true;
}

function watchPager(sandboxId: string, vm: RunningVm, care: PagerCare): void {
  vm.pager?.process.exited.then((exit) => replacePager(sandboxId, vm, exit, care));
}

async function replacePager(sandboxId: string, vm: RunningVm, exit: ExitStatus, care: PagerCare): Promise<void> {
  if (vm.disposing) return;
  // Its status is 0 when its VM went first; an adopted one's is not known.
  if (exit.signal === null && !exit.code) await endOf(vm, VM_EXIT_GRACE_MS);
  if (vm.disposing || vm.ended) return;
  log("error", "pager_gone", { sandbox_id: sandboxId, exit: describeExit(exit) });
  if (await care.succeed()) {
    // Somebody may have let go of the VM meanwhile, and of the dead pager with it.
    if (vm.disposing) return await vm.pager?.[Symbol.asyncDispose]();
    watchPager(sandboxId, vm, care);
    return care.succeeded();
  }
  vm.killedFor = "pager_failed";
  await vm.vmm.process[Symbol.asyncDispose]();
}

async function endOf(vm: RunningVm, timeoutMs: number): Promise<void> {
  const waiting = new AbortController();
  try {
    await Promise.race([vm.vmm.process.exited, delay(timeoutMs, waiting.signal)]);
  } finally {
    waiting.abort();
  }
}
