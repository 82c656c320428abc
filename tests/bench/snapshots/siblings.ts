import { newId } from "@torpor/ids";
import { startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import { fillMemory } from "./host.ts";

const SIBLINGS = 8;
const MEMORY_MB = 256;
const DATA_MB = 96;
const READ = "sha256sum < /dev/shm/data";

/**
 * Guest memory on the host of eight siblings of one snapshot that have read all their data: with a shared base, by private
 * copies.
 */
export async function benchSiblings(): Promise<Record<string, number>> {
  const shared = await siblingMemory(true);
  const plain = await siblingMemory(false);
  return {
    sibling_memory_over_plain: shared / plain,
    sibling_memory_mb: shared / 2 ** 20,
    plain_memory_mb: plain / 2 ** 20,
  };
}

async function siblingMemory(sharedBase: boolean): Promise<number> {
  await using host = await startTestHostAgent({ sharedBase });
  const sandboxId = await host.create({ memoryMb: MEMORY_MB });
  await fillMemory(host, sandboxId, DATA_MB);
  const digest = await host.run(sandboxId, READ);
  const snapshotId = newId();
  await host.client.createSnapshot({ sandboxId, snapshotId, keepSandbox: true });
  await host.client.destroySandbox({ sandboxId });
  const before = await sharedMemoryBytes();
  const ids = await Promise.all(Array.from({ length: SIBLINGS }, () => spawn(host, snapshotId)));
  for (const id of ids) {
    if (await host.run(id, READ) !== digest) throw new Error(`sibling ${id} has read other bytes`);
  }
  const anonymous = await Promise.all(
    ids.map((id) => guestAnonymousBytes(host.agent.manager.get(id).vm!.vmm.process.pid)),
  );
  return await sharedMemoryBytes() - before + anonymous.reduce((sum, bytes) => sum + bytes, 0);
}

async function spawn(host: TestHostAgent, snapshotId: string): Promise<string> {
  return (await host.client.createSandbox({ sandboxId: newId(), snapshotId })).sandboxId;
}

/** Memory files of this machine: guests' memory and bases are in them (Shmem in /proc/meminfo). */
async function sharedMemoryBytes(): Promise<number> {
  const meminfo = await Deno.readTextFile("/proc/meminfo");
  return Number(/^Shmem:\s+(\d+) kB$/m.exec(meminfo)![1]) * 1024;
}

/** Private pages of a process's largest private file mapping: what a sibling has written of its guest memory. */
async function guestAnonymousBytes(pid: number): Promise<number> {
  const smaps = await Deno.readTextFile(`/proc/${pid}/smaps`);
  let most = 0;
  for (const mapping of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    if (!/^\S+ rw-p .*memfd:/.test(mapping)) continue;
    most = Math.max(most, Number(/^Anonymous:\s+(\d+) kB$/m.exec(mapping)![1]) * 1024);
  }
  return most;
}
