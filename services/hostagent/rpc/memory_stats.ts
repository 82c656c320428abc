import { create } from "@bufbuild/protobuf";
import { type GetMemoryStatsResponse, GetMemoryStatsResponseSchema } from "@torpor/proto/hostagent";
import { latencyPercentile } from "../memory/report_pager.ts";
import type { RunningVm } from "../sandbox/running_vm.ts";

/** Where the pages of a running VM came from since its resume. */
export function memoryStats({ memory, pager }: RunningVm): GetMemoryStatsResponse {
  const common = {
    pagesTotal: BigInt(memory.pagesTotal),
    pagesResident: BigInt(memory.pagesResident),
    lazy: pager !== undefined,
  };
  if (!pager) return create(GetMemoryStatsResponseSchema, common);
  const stats = pager.stats();
  return create(GetMemoryStatsResponseSchema, {
    ...common,
    dataPagesServed: BigInt(stats.dataPagesServed),
    zeroPagesServed: BigInt(stats.zeroPagesServed),
    prefetchedPages: BigInt(stats.prefetchedPages),
    faults: BigInt(stats.faults),
    faultP50Us: latencyPercentile(stats, 0.5),
    faultP99Us: latencyPercentile(stats, 0.99),
  });
}
