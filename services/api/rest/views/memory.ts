import { z } from "@hono/zod-openapi";
import type { GetMemoryStatsResponse } from "@torpor/proto/hostagent";

export const memoryView = z.object({
  pages_total: z.int().openapi({ description: "Pages are 4,096 bytes." }),
  pages_resident: z.int(),
  data_pages_served: z.int().openapi({ description: "From snapshot data, since the resume." }),
  zero_pages_served: z.int(),
  prefetched_pages: z.int(),
  faults: z.int(),
  fault_p50_us: z.number(),
  fault_p99_us: z.number(),
  lazy: z.boolean().openapi({ description: "false: booted, not resumed." }),
}).openapi("MemoryStats");

/** Where the pages of a sandbox came from. */
export function viewMemory(stats: GetMemoryStatsResponse): z.input<typeof memoryView> {
  return {
    pages_total: Number(stats.pagesTotal),
    pages_resident: Number(stats.pagesResident),
    data_pages_served: Number(stats.dataPagesServed),
    zero_pages_served: Number(stats.zeroPagesServed),
    prefetched_pages: Number(stats.prefetchedPages),
    faults: Number(stats.faults),
    fault_p50_us: stats.faultP50Us,
    fault_p99_us: stats.faultP99Us,
    lazy: stats.lazy,
  };
}
