import { assertEquals, assertLess } from "@std/assert";
import { TorporError } from "@torpor/errors";
import type { Lane, Scenario } from "../lane.ts";
import { prepare, RANDOM_BYTES, stateOf } from "../workload.ts";

/**
 * A pager that dies while its guest waits for pages: either another takes over, or the VM is killed and the sandbox is
 * paused again, with a reason. On Linux 6.1 a vCPU that waits for a page cannot even be stopped, so an agent that tries
 * hangs. In any case the bytes of the snapshot come back.
 */
export const pagerKilled: Scenario = {
  name: "pager-killed",
  async run(lane) {
    const id = await lane.create();
    const state = await prepare(lane, id);
    await lane.client.pauseSandbox({ sandboxId: id });
    await lane.client.resumeSandbox({ sandboxId: id });
    const pagers = await pagerPids();
    assertEquals(pagers.length, 1);
    // Most of what will be read is not there yet, so the reader meets the dead pager.
    const { dataPagesServed } = await lane.client.getMemoryStats({ sandboxId: id });
    assertLess(Number(dataPagesServed), RANDOM_BYTES / 4096 / 2);
    const reading = stateOf(lane, id).catch((error) => error);
    Deno.kill(pagers[0]!, "SIGKILL");
    const answer = await reading;
    const { sandbox } = await lane.client.getSandbox({ sandboxId: id });
    const succeeded = !(answer instanceof Error);
    if (succeeded) assertEquals((await pagerPids()).filter((pid) => !pagers.includes(pid)).length, 1);
    else await resumeAgain(lane, id, answer, sandbox!);
    assertEquals(await stateOf(lane, id), state);
    return { another_pager_took_over: succeeded };
  },
};

async function resumeAgain(
  lane: Lane,
  sandboxId: string,
  error: Error,
  sandbox: { status: string; reason: string },
): Promise<void> {
  if (!(error instanceof TorporError)) throw error;
  assertEquals(sandbox.status, "paused", `${error.code}: ${error.message}`);
  assertEquals(sandbox.reason !== "", true);
  await lane.client.resumeSandbox({ sandboxId });
}

async function pagerPids(): Promise<number[]> {
  const pids: number[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const commandLine = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    // In its jail it has another path than outside.
    if (commandLine.split("\0")[0]!.endsWith("/torpor-pager")) pids.push(Number(name));
  }
  return pids;
}
