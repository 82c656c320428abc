import type { PagerStats } from "@torpor/ffi";
import { recordReportedSpan } from "@torpor/telemetry";
import type { RunningVm } from "../sandbox/running_vm.ts";

/** Records what the pager of a resumed VM has done so far as a span of the pager, below the active span. */
export function reportPager(name: string, vm: RunningVm): void {
  const { pager, parent } = vm;
  if (!pager) return;
  const stats = pager.stats();
  recordReportedSpan({
    component: "pager",
    name,
    startUnixMs: vm.startedAtMs,
    // Its own clock is monotonic; the wall clock of its first fault is taken as the start of the vCPUs.
    durationMs: Math.max(Number(stats.lastFaultNs - stats.firstFaultNs) / 1e6, 0),
    attributes: {
      "torpor.faults": stats.faults,
      "torpor.faults.zero": stats.zeroFaults,
      "torpor.pages.data_served": stats.dataPagesServed,
      "torpor.pages.zero_served": stats.zeroPagesServed,
      "torpor.pages.prefetched": stats.prefetchedPages,
      "torpor.pages.fault_around": stats.faultAroundPages,
      "torpor.fault_p50_us": latencyPercentile(stats, 0.5),
      "torpor.fault_p99_us": latencyPercentile(stats, 0.99),
      ...bytesBySource(stats, parent?.table.sources ?? []),
    },
  });
}

/**
 * A percentile of the time that the pager took for one fault, microseconds; 0 without faults. The histogram has one bucket
 * per power of two: the result is interpolated inside of its bucket.
 */
export function latencyPercentile(stats: Pick<PagerStats, "latency">, fraction: number): number {
  const total = stats.latency.reduce((sum, count) => sum + count, 0);
  let before = 0;
  for (const [bucket, count] of stats.latency.entries()) {
    if (count > 0 && before + count >= total * fraction) {
      const inside = (total * fraction - before) / count;
      return (2 ** bucket * (1 + inside)) / 1000;
    }
    before += count;
  }
  return 0;
}

function bytesBySource(stats: PagerStats, sources: string[]): Record<string, number> {
  const read = stats.bytesRead.map((bytes, index) => [sources[index] ?? "others", bytes] as const);
  return Object.fromEntries(read.filter(([, bytes]) => bytes > 0).map(([id, bytes]) => [`torpor.bytes.${id}`, bytes]));
}
