import { makeTestHome, startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { fillMemory } from "./host.ts";
import { median, timed } from "./median.ts";

const ROUNDS = 7;

/** Resumes until a command has run, without prefetch by with prefetch: alternating, so that both see the same machine. */
export async function benchPrefetch(): Promise<Record<string, number>> {
  const home = await makeTestHome();
  const times: { on: number[]; off: number[] } = { on: [], off: [] };
  const withHost = async <T>(prefetch: boolean, work: (host: TestHostAgent) => Promise<T>) => {
    await using host = await startTestHostAgent({ home, overrides: { prefetch } });
    return await work(host);
  };
  try {
    const sandboxId = await withHost(true, async (host) => {
      const id = await host.create({ memoryMb: 512 });
      await fillMemory(host, id, 128);
      await host.client.pauseSandbox({ sandboxId: id });
      // The first resume teaches the working set.
      await resumeAndExec(host, id);
      await host.client.pauseSandbox({ sandboxId: id });
      return id;
    });
    for (let round = 0; round < 2 * ROUNDS; round++) {
      const tier = round % 2 === 0 ? "on" : "off";
      await withHost(tier === "on", async (host) => {
        times[tier].push((await timed(() => resumeAndExec(host, sandboxId))).ms);
        await host.client.pauseSandbox({ sandboxId });
      });
    }
    await withHost(true, (host) => host.agent.manager.destroyAll());
  } finally {
    await Deno.remove(home, { recursive: true });
  }
  return {
    prefetch_speedup: median(times.off) / median(times.on),
    resume_ms_prefetch_on: median(times.on),
    resume_ms_prefetch_off: median(times.off),
  };
}

async function resumeAndExec(host: TestHostAgent, sandboxId: string): Promise<void> {
  await host.client.resumeSandbox({ sandboxId });
  await host.run(sandboxId, "cat /proc/sys/kernel/random/boot_id");
}
