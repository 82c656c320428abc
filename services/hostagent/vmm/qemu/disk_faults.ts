import type { DiskFault } from "../driver.ts";
import type { Qmp, QmpEvent } from "./qmp.ts";

/** A device's name for what its disk last met. */
const FAULT_OF: Record<string, DiskFault | undefined> = { nospace: "no_space", failed: "io_error" };

/**
 * Follows whether QEMU has stopped its guest because of a failed write (`werror=stop`; the run state is then `io-error`).
 *
 *     BLOCK_IO_ERROR (action "stop") ─▶ STOP ─▶ (cont) ─▶ RESUME, and all of it again when the write fails again
 *
 * The error comes first, then the stop. When the vCPUs stand still already, for a pause, there is no second STOP: that guest
 * was stopped by somebody who starts it again.
 */
export class QemuDiskFaults {
  #current: DiskFault | undefined;
  #announced: DiskFault | undefined;
  readonly #qmp: Qmp;
  readonly #listeners = new Set<(fault: DiskFault | undefined) => void>();

  /** Follows the events of a monitor from now on. */
  constructor(qmp: Qmp) {
    this.#qmp = qmp;
    qmp.follow((event) => this.#note(event));
  }

  /** Undefined: the guest runs, or was stopped by a command. */
  get current(): DiskFault | undefined {
    return this.#current;
  }

  /** Calls `listener` whenever `current` has changed, until the result is disposed. */
  onChange(listener: (fault: DiskFault | undefined) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Asks what there was before the events were followed. @throws TorporError `vm_gone`, `deadline_exceeded`. */
  async find(): Promise<void> {
    const { status } = await this.#qmp.execute("query-status") as { status: string };
    if (status !== "io-error") return;
    const disks = await this.#qmp.execute("query-block") as { "io-status"?: string }[];
    const faults = disks.map((disk) => FAULT_OF[disk["io-status"] ?? ""]).filter((fault) => fault !== undefined);
    this.#set(faults[0] ?? "io_error");
  }

  #note({ event, data }: QmpEvent): void {
    if (event === "BLOCK_IO_ERROR" && data.action === "stop") {
      this.#announced = data.nospace === true ? "no_space" : "io_error";
    } else if (event === "STOP") {
      this.#set(this.#announced);
    } else if (event === "RESUME") {
      this.#announced = undefined;
      this.#set(undefined);
    }
  }

  #set(fault: DiskFault | undefined): void {
    if (fault === this.#current) return;
    this.#current = fault;
    for (const listener of this.#listeners) listener(fault);
  }
}
