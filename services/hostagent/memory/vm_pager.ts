import type { PagerStats, Process } from "@torpor/ffi";
import type { PagerRecord } from "../sandbox/record.ts";

/** What answers a resumed guest's page faults: a process of its own, or one that many share. Disposing it ends the service. */
export interface VmPager extends AsyncDisposable {
  /** Without it the guest stands still at its next fault. */
  readonly process: Process;
  /** What a restarted agent needs to find it again. */
  readonly record: PagerRecord;
  stats(): PagerStats;
  /** Pages that were touched first after the resume and had not been fetched ahead, see readFaultOrder. */
  faultOrder(): Uint32Array;
  /** Pages that the guest gave back since the resume and that no page table tells of: one bit each. */
  removedPages(): Uint8Array<ArrayBuffer>;
  /** Lets go of the process: it serves on without this agent. */
  release(): Promise<void>;
}
