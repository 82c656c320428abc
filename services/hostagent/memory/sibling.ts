import {
  type Descriptor,
  fileIdentity,
  type PagerStats,
  type Process,
  readPagerStats,
  readRemovedPages,
} from "@torpor/ffi";
import type { PagerRecord } from "../sandbox/record.ts";
import type { SharedBase } from "./shared_base.ts";
import type { VmPager } from "./vm_pager.ts";

/** One VMM's membership of a shared base. */
export class Sibling implements VmPager {
  readonly base: SharedBase;
  readonly #statsNumber: number;
  readonly #stats: Descriptor;

  /**
   * @param base it has joined. @param statsNumber of its statistics inside the base's process.
   * @param stats the same statistics here; taken over.
   */
  constructor(base: SharedBase, statsNumber: number, stats: Descriptor) {
    this.base = base;
    this.#statsNumber = statsNumber;
    this.#stats = stats;
  }

  get process(): Process {
    return this.base.process;
  }

  get record(): PagerRecord {
    const { pid, start_time, ...base } = this.base.record;
    const { inode } = fileIdentity(this.#stats.fd);
    return { pid, start_time, stats_fd: this.#statsNumber, stats_inode: String(inode), base };
  }

  /** Its own counters; what ended the base's process ended its service. */
  stats(): PagerStats {
    const own = readPagerStats(this.#stats.fd);
    const { state, error, errno } = this.base.stats();
    return state === "failed" || state === "stopped" ? { ...own, state, error, errno } : own;
  }

  faultOrder(): Uint32Array {
    return this.base.faultOrder();
  }

  /** None: what it gave back is in its page table, as the page of zeros. */
  removedPages(): Uint8Array<ArrayBuffer> {
    return readRemovedPages(this.#stats.fd);
  }

  /** Its statistics, for the membership of a successor's. */
  get statsDescriptor(): Descriptor {
    return this.#stats;
  }

  release(): Promise<void> {
    this.base.leaveRunning();
    this.#stats.close();
    return Promise.resolve();
  }

  /** The VMM must have ended: nobody answers its faults any more. */
  [Symbol.asyncDispose](): Promise<void> {
    this.base.leave();
    this.#stats.close();
    return Promise.resolve();
  }
}
