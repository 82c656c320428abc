import { newId } from "@torpor/ids";
import { fillMemory, startHost } from "./host.ts";
import { median } from "./median.ts";

const ROUNDS = 5;
const DIRTY_MB = 78; // 20,000 pages
/** A loop that rewrites a file in memory: pages become dirty again while a checkpoint copies them. */
const WRITER =
  "setsid bash -c 'while :; do head -c 2M /dev/zero | tr \"\\0\" x > /dev/shm/hot; done' > /dev/null 2>&1 < /dev/null & echo";

/** How long the vCPUs stand still for a live checkpoint, with 20,000 pages dirtied since the one before and a hot writer. */
export async function benchCheckpoint(): Promise<Record<string, number>> {
  await using host = await startHost();
  const sandboxId = await host.create({ memoryMb: 1024 });
  await fillMemory(host, sandboxId, 384);
  await host.client.pauseSandbox({ sandboxId });
  await host.client.resumeSandbox({ sandboxId });
  await host.run(sandboxId, WRITER);
  const stopped: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await host.run(sandboxId, `head -c ${DIRTY_MB}M /dev/urandom > /dev/shm/dirty`);
    const snapshotId = newId();
    const { stoppedUs } = await host.client.createSnapshot({ sandboxId, snapshotId, keepSandbox: true });
    stopped.push(Number(stoppedUs) / 1000);
    await host.client.deleteSnapshot({ snapshotId });
  }
  return { checkpoint_stop_ms_1024: median(stopped), checkpoint_stop_ms_1024_max: Math.max(...stopped) };
}
