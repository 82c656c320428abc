/**
 * What the guest does before a pause so that it becomes smaller: upper limits per step, milliseconds; 0: the step is off.
 * See ReclaimCaps of hostagent.v1.
 */
export interface ReclaimCaps {
  fstrimMs: number;
  syncMs: number;
  dropCachesMs: number;
  compactMemoryMs: number;
}

/** How one guest hook around a pause ended; see HookOutcome of hostagent.v1. */
export interface HookOutcome {
  step: string;
  /** "ok", "timed_out", "failed". */
  outcome: string;
  errorNumber: number;
  durationUs: number;
  bytesTrimmed: number;
  freeBytesBefore: number;
  freeBytesAfter: number;
}
