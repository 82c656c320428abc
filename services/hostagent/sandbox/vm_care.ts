import type { HostContext } from "./context.ts";
import { mindDiskFaults } from "./disk_fault.ts";
import { thawGuest } from "./guest_hooks.ts";
import type { IdleTimers } from "./idle_timers.ts";
import type { KeyedLocks } from "./keyed_locks.ts";
import type { RunningVm } from "./running_vm.ts";
import type { Sandbox } from "./sandbox.ts";
import { saveOutcome } from "./save_outcome.ts";
import { settleLostVm } from "./settle_lost_vm.ts";
import { succeedPager } from "./succeed_pager.ts";
import { type PagerCare, watchVm } from "./vm_watch.ts";

/** Looks after the VMs of running sandboxes between operations. */
export class VmCare {
  readonly #context: HostContext;
  readonly #locks: KeyedLocks;
  readonly #idle: IdleTimers;
  readonly #background = new Set<Promise<void>>();

  constructor(context: HostContext, locks: KeyedLocks, idle: IdleTimers) {
    this.#context = context;
    this.#locks = locks;
    this.#idle = idle;
  }

  /** Notices the end of the sandbox's VM, lets its guest go on when its disk has stopped it, and arms its idle timer. */
  watch(sandbox: Sandbox): void {
    const { vm } = sandbox;
    if (!vm) return;
    this.#idle.start(sandbox);
    const care = {
      succeed: () => succeedPager(this.#context, sandbox.id, vm),
      succeeded: () => this.#inBackground(this.#noteSuccessor(sandbox, vm)),
    };
    this.#inBackground(this.#settleWhenLost(sandbox, vm, care));
    this.#inBackground(mindDiskFaults(this.#context, this.#locks, sandbox.id, vm));
  }

  /** Watches one that an earlier agent has left, which may have died between freezing the guest and stopping its vCPUs. */
  takeOver(sandbox: Sandbox): void {
    this.watch(sandbox);
    if (sandbox.vm) this.#inBackground(thawGuest(this.#context, sandbox.id, sandbox.vm));
  }

  /** Resolves when nothing is left to do; all VMs have ended or were let go. */
  async idle(): Promise<void> {
    await Promise.all(this.#background);
  }

  async #settleWhenLost(sandbox: Sandbox, vm: RunningVm, care: PagerCare): Promise<void> {
    if (!await watchVm(sandbox.id, vm, care)) return;
    using _lock = await this.#locks.acquire(sandbox.id);
    // An operation may have noticed it before.
    if (sandbox.vm !== vm) return;
    await settleLostVm(this.#context, sandbox);
    await saveOutcome(this.#context.layout, sandbox);
  }

  /** The next agent must find the pager that serves now. */
  async #noteSuccessor(sandbox: Sandbox, vm: RunningVm): Promise<void> {
    using _lock = await this.#locks.acquire(sandbox.id);
    if (sandbox.vm !== vm || !sandbox.record.vm) return;
    sandbox.record.vm = vm.record;
    await saveOutcome(this.#context.layout, sandbox);
  }

  #inBackground(work: Promise<void>): void {
    this.#background.add(work);
    work.finally(() => this.#background.delete(work));
  }
}
