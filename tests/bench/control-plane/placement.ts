import { newId } from "@torpor/ids";
import { asTorporError } from "@torpor/errors";
import type { Plane } from "./plane.ts";
import { quantile, timeEach } from "./quantile.ts";

const RESOURCES = { vcpus: 1, memoryMb: 512n, diskMb: 5120n };

/** Placements whose times are looked at, per number of hosts. */
const PLACEMENTS = 2_000;

/** Slots that `CONTENDERS` placements ask for at the same time. */
const LAST_SLOTS = 100;
const CONTENDERS = 500;

/** Time and rate of placements by the number of hosts, and what happens on the last free slots. */
export async function benchPlacement(plane: Plane): Promise<Record<string, number>> {
  using scheduler = plane.scheduler();
  const figures: Record<string, number> = {};
  const place = async () => void await scheduler.place({ sandboxId: newId(), resources: RESOURCES });
  for (const hosts of [100, 1_000, 10_000]) {
    await plane.registerHosts(hosts);
    await timeEach(200, 4, place);
    const times = await timeEach(PLACEMENTS, 2, place);
    figures[`place_p50_ms_${hosts}`] = quantile(times, 0.5);
    figures[`place_p99_ms_${hosts}`] = quantile(times, 0.99);
    if (hosts === 1_000) {
      const began = performance.now();
      await timeEach(PLACEMENTS, 16, place);
      figures.placements_per_s = PLACEMENTS / (performance.now() - began) * 1000;
    }
    await plane.empty();
  }
  figures.overcommits = await contend(plane);
  return figures;
}

/** More placements at once than there is room for, by one scheduler. @returns how many too many were placed. */
async function contend(plane: Plane): Promise<number> {
  await plane.registerHosts(LAST_SLOTS / 10, { memoryMb: 5_120 });
  using scheduler = plane.scheduler();
  const results = await Promise.all(Array.from({ length: CONTENDERS }, async () => {
    try {
      await scheduler.place({ sandboxId: newId(), resources: RESOURCES });
      return 1;
    } catch (thrown) {
      if (asTorporError(thrown).code === "no_capacity") return 0;
      throw thrown;
    }
  }));
  const placed = results.reduce((sum: number, one) => sum + one, 0);
  const [row] = await plane.database.sql<{ over: number }[]>`
    select count(*)::int as over from hosts where reserved_memory_mb > memory_mb`;
  if (placed < LAST_SLOTS) throw new Error(`${placed} of ${LAST_SLOTS} free slots were placed`);
  await plane.empty();
  return row!.over + placed - LAST_SLOTS;
}
