import type { Plane } from "./plane.ts";
import { memoryMb } from "./process_figures.ts";
import { quantile, timeEach } from "./quantile.ts";

/** The same number for all sizes: what is measured is the cost of sandboxes. */
const HOSTS = 10;

const PASSES = 15;

/** The time of a pass when nothing changes, by the number of sandboxes, and the services' memory with the most of them. */
export async function benchReconcile(plane: Plane): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  using reconciler = plane.reconciler();
  const pass = async () => {
    const { repairs } = await reconciler.reconcile({});
    if (repairs.length > 0) throw new Error(`a pass in agreement has repaired something: ${repairs[0]!.kind}`);
  };
  for (const sandboxes of [1_000, 10_000, 100_000]) {
    await using _hosts = await plane.startHosts(HOSTS, sandboxes / HOSTS);
    const [first] = await timeEach(1, 1, pass);
    figures[`reconcile_first_ms_${sandboxes}`] = first!;
    await timeEach(3, 1, pass);
    figures[`reconcile_ms_${sandboxes}`] = quantile(await timeEach(PASSES, 1, pass), 0.5);
    if (sandboxes < 100_000) continue;
    for (const [name, pid] of Object.entries(plane.pids)) figures[`memory_mb_${name}`] = memoryMb(pid);
  }
  figures.reconcile_steady_100k_over_1k = figures.reconcile_ms_100000! / figures.reconcile_ms_1000!;
  return figures;
}
