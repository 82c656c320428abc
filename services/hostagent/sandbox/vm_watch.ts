import type { ExitStatus } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { delay } from "../host/delay.ts";
import { describeExit } from "../vmm/process.ts";
import type { RunningVm } from "./running_vm.ts";

/** A pager ends by itself when its VM is gone; the VM's own end is seen within this time. */
const VM_EXIT_GRACE_MS = 1_000;

/**
 * Waits for the end of a VM, or until the agent lets go of it. A VM whose pager is gone is killed: its next page fault would wait for ever.
 * @returns true when nobody asked for the end.
 */
export async function watchVm(sandboxId: string, vm: RunningVm): Promise<boolean> {
  const { pager } = vm;
  pager?.process.exited.then((exit) => killWithoutPager(sandboxId, vm, exit));
  const exit = await Promise.race([vm.vmm.process.exited, vm.letGo]);
  if (vm.disposing || !exit) return false;
  log("error", "vm_gone", { sandbox_id: sandboxId, exit: describeExit(exit), killed_for: vm.killedFor });
  return true;
}

async function killWithoutPager(sandboxId: string, vm: RunningVm, exit: ExitStatus): Promise<void> {
  if (vm.disposing) return;
  // Its status is 0 when its VM went first; an adopted one's is not known.
  if (exit.signal === null && !exit.code) await endOf(vm, VM_EXIT_GRACE_MS);
  if (vm.disposing || vm.ended) return;
  log("error", "pager_gone", { sandbox_id: sandboxId, exit: describeExit(exit) });
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
