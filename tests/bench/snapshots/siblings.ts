import { allocatedBytes } from "@torpor/ffi";
import { newId } from "@torpor/ids";
import { startTestHostAgent, type TestHostAgent } from "@torpor/testing/hostagent";
import type { SharedBase } from "../../../services/hostagent/memory/shared_base.ts";
import { Sibling } from "../../../services/hostagent/memory/sibling.ts";
import { fillMemory } from "./host.ts";
import { median } from "./median.ts";

const SIBLINGS = 8;
const MEMORY_MB = 256;
const DATA_MB = 96;
const WRITTEN_MB = 8;
const READ = "sha256sum < /dev/shm/data";

/**
 * Guest memory on the host of eight siblings of one snapshot that have read all their data: with a shared base, by private
 * copies; and again when each has written, slept and woken.
 */
export async function benchSiblings(): Promise<Record<string, number>> {
  const shared = await measure(true);
  const plain = await measure(false);
  return {
    sibling_memory_over_plain: shared.bytes / plain.bytes,
    sibling_memory_mb: shared.bytes / 2 ** 20,
    plain_memory_mb: plain.bytes / 2 ** 20,
    resumed_sibling_memory_over_plain: shared.resumedBytes / plain.resumedBytes,
    resumed_sibling_memory_mb: shared.resumedBytes / 2 ** 20,
    resumed_plain_memory_mb: plain.resumedBytes / 2 ** 20,
    resumed_sibling_ms: median(shared.resumeMs),
    resumed_plain_ms: median(plain.resumeMs),
    resumed_sibling_stored_over_written: shared.storedBytes / (SIBLINGS * WRITTEN_MB * 2 ** 20),
  };
}

/** What was measured on one host. */
interface Measured {
  bytes: number;
  resumedBytes: number;
  /** Of each sibling, until a command has run. */
  resumeMs: number[];
  /** What the second pauses have stored of memory, all together. */
  storedBytes: number;
}

async function measure(sharedBase: boolean): Promise<Measured> {
  await using host = await startTestHostAgent({ sharedBase });
  const sandboxId = await host.create({ memoryMb: MEMORY_MB });
  await fillMemory(host, sandboxId, DATA_MB);
  const digest = await host.run(sandboxId, READ);
  const snapshotId = newId();
  await host.client.createSnapshot({ sandboxId, snapshotId, keepSandbox: true });
  await host.client.destroySandbox({ sandboxId });
  const ids = await Promise.all(Array.from({ length: SIBLINGS }, () => spawn(host, snapshotId)));
  const bytes = await memoryBytes(host, ids, digest);
  for (const id of ids) await write(host, id, "first");
  const resumeMs: number[] = [];
  for (const sandboxId of ids) {
    await host.client.pauseSandbox({ sandboxId });
    const began = performance.now();
    await host.client.resumeSandbox({ sandboxId });
    await host.run(sandboxId, "true");
    resumeMs.push(performance.now() - began);
  }
  const resumedBytes = await memoryBytes(host, ids, digest);
  let storedBytes = 0;
  for (const sandboxId of ids) {
    await write(host, sandboxId, "second");
    storedBytes += Number((await host.client.pauseSandbox({ sandboxId })).snapshot!.memoryBytes);
  }
  return { bytes, resumedBytes, resumeMs, storedBytes };
}

async function write(host: TestHostAgent, id: string, name: string): Promise<void> {
  await host.run(id, `head -c ${WRITTEN_MB * 2 ** 20} /dev/urandom > /dev/shm/${name}`);
}

/** Guest memory on the host when each sibling has read all its data: bases, each once, and what is the siblings' own. */
async function memoryBytes(host: TestHostAgent, ids: string[], digest: string): Promise<number> {
  for (const id of ids) {
    if (await host.run(id, READ) !== digest) throw new Error(`sibling ${id} has read other bytes`);
  }
  const bases = new Set<SharedBase>();
  let bytes = 0;
  for (const id of ids) {
    const { pager, memory, vmm } = host.agent.manager.get(id).vm!;
    if (pager instanceof Sibling) bases.add(pager.base);
    bytes += pager instanceof Sibling ? await guestAnonymousBytes(vmm.process.pid) : allocatedBytes(memory.fd);
  }
  for (const base of bases) bytes += allocatedBytes(base.memoryFd);
  return bytes;
}

async function spawn(host: TestHostAgent, snapshotId: string): Promise<string> {
  return (await host.client.createSandbox({ sandboxId: newId(), snapshotId })).sandboxId;
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
