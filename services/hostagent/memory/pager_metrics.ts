import type { PagerStats } from "@torpor/ffi";
import { count, log, measure } from "@torpor/telemetry";
import { PAGE_BYTES } from "@torpor/snapshot";
import { latencyPercentile } from "./report_pager.ts";
import { Sibling } from "./sibling.ts";
import type { VmPager } from "./vm_pager.ts";

/** Which part of a VM's life has ended. */
export type PagerPhase = "resume" | "life";

/** A VM: it stays the same when another pager takes the place of a killed one, as the statistics do. */
interface Served {
  readonly pager: VmPager | undefined;
}

/** What has been counted already, by whose statistics they are. */
const counted = new WeakMap<object, PagerStats>();

/** Takes over a VM of an earlier agent, which has counted what its pager has done so far. */
export function skipCounted(served: Served): void {
  const found = statistics(served);
  if (found) counted.set(found.key, found.stats);
}

/** Counts what the pager of a VM has done since the last time. Never throws: a VM ends with or without that. */
export function countPager(served: Served, phase: PagerPhase): void {
  try {
    const found = statistics(served);
    if (!found) return;
    const { key, stats, source } = found;
    const before = counted.get(key);
    counted.set(key, stats);
    countBetween(before, stats, source);
    const own = served.pager!.stats();
    const p99 = latencyPercentile(own, 0.99) / 1e6;
    if (own.faults > 0) measure("torpor.pager.fault.p99", p99, { "torpor.phase": phase });
  } catch (error) {
    log("warn", "pager_not_counted", {}, error);
  }
}

/** Those of a base have the sums of all who share it. */
function statistics(served: Served) {
  const { pager } = served;
  if (pager instanceof Sibling) return { key: pager.base, stats: pager.base.stats(), source: "base" } as const;
  return pager && { key: served, stats: pager.stats(), source: "generation" } as const;
}

function countBetween(before: PagerStats | undefined, now: PagerStats, source: "base" | "generation"): void {
  const since = (of: (stats: PagerStats) => number) => of(now) - (before ? of(before) : 0);
  const installed = (from: "zero" | "base" | "generation" | "prefetch", of: (stats: PagerStats) => number) =>
    count("torpor.pager.installed", since(of) * PAGE_BYTES, { "torpor.page.source": from });
  count("torpor.pager.faults", since(({ faults }) => faults), {});
  installed("zero", ({ zeroPagesServed }) => zeroPagesServed);
  installed(source, ({ dataPagesServed }) => dataPagesServed);
  installed("prefetch", ({ prefetchedPages }) => prefetchedPages);
  const read = since(({ bytesRead }) => bytesRead.reduce((sum, bytes) => sum + bytes, 0));
  count("torpor.pager.read", read, { "torpor.page.source": source });
}
