import { TorporError } from "@torpor/errors";
import type { VmPager } from "../memory/vm_pager.ts";
import type { Vmm } from "../vmm/driver.ts";

const SIGKILL = 9;

/**
 * While a sandbox is being resumed nobody watches its processes yet. A guest whose pager is gone would wait at its next
 * page until some deadline ends: it ends with its pager instead. Dispose it when the VM is watched.
 */
export class PagerTie implements Disposable {
  #tied = true;
  #pagerGone = false;

  /** From now on the VMM ends with the pager. */
  knot(vmm: Vmm, pager: VmPager): void {
    pager.process.exited.then(({ signal, code }) => {
      // Its status is 0 when its VM went first.
      if (!this.#tied || signal === null && code === 0) return;
      this.#pagerGone = true;
      vmm.process.signal(SIGKILL);
    });
  }

  /** Says of work that fails because the VMM has ended with its pager that this was why. @throws `pager_failed`. */
  async explain<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (cause) {
      if (!this.#pagerGone) throw cause;
      throw new TorporError("pager_failed", "the pager ended while the sandbox was being resumed", { cause });
    }
  }

  [Symbol.dispose](): void {
    this.#tied = false;
  }
}
