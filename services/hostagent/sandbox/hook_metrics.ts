import { count, measure } from "@torpor/telemetry";
import type { HookOutcome } from "./guest_hooks.ts";
import { MAX_RECLAIM_CAP_MS } from "./reclaim_caps.ts";
import type { SandboxRecord } from "./record.ts";

/** Counts what a guest did before a pause. The numbers are its own word: none counts for more than it can have. */
export function countHooks(outcomes: readonly HookOutcome[], record: SandboxRecord): void {
  for (const { step, outcome, durationUs, bytesTrimmed, freeBytesBefore, freeBytesAfter } of outcomes) {
    const attributes = { "torpor.hook.step": step, "torpor.hook.outcome": outcome };
    count("torpor.guest.hook.runs", 1, attributes);
    measure("torpor.guest.hook.duration", Math.min(durationUs / 1e6, MAX_RECLAIM_CAP_MS / 1000), attributes);
    const freed = step === "fstrim"
      ? Math.min(bytesTrimmed, record.disk_size_mb * 2 ** 20)
      : step === "drop_caches"
      ? Math.min(freeBytesAfter - freeBytesBefore, record.memory_mb * 2 ** 20)
      : 0;
    count("torpor.guest.reclaimed", freed, { "torpor.hook.step": step });
  }
}
