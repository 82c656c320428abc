import { assertEquals } from "@std/assert";
import { latencyPercentile } from "./report_pager.ts";

function histogram(counts: Record<number, number>): { latency: number[] } {
  return { latency: Array.from({ length: 40 }, (_, bucket) => counts[bucket] ?? 0) };
}

Deno.test("percentiles lie inside of the bucket that holds them", () => {
  assertEquals(latencyPercentile(histogram({}), 0.5), 0);
  // 100 faults of 1024 … 2047 ns.
  assertEquals(latencyPercentile(histogram({ 10: 100 }), 0.5), 1.536);
  assertEquals(latencyPercentile(histogram({ 10: 100 }), 1), 2.048);
  // 98 fast ones, 2 slow ones: the median is fast, the 99th percentile slow.
  const mixed = histogram({ 10: 98, 20: 2 });
  assertEquals(latencyPercentile(mixed, 0.5) < 2.048, true);
  assertEquals(latencyPercentile(mixed, 0.99), (2 ** 20 * 1.5) / 1000);
});
