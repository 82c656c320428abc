import type { Host } from "@torpor/proto/scheduler";
import type { Api } from "./api.ts";

/**
 * All hosts with their capacity and what is reserved.
 * @throws TorporError `unavailable` when the scheduler cannot be reached.
 */
export async function listHosts(api: Api): Promise<Host[]> {
  return (await api.scheduler.listHosts({})).hosts;
}
