import { statfs } from "node:fs/promises";

/** What this machine has, for the scheduler. */
export interface MachineCapacity {
  vcpus: number;
  memoryMb: number;
  diskMb: number;
}

/** Memory that sandboxes do not get: the agent, the page cache of the images, the rest of the system. */
const RESERVED_MEMORY_MB = 512;
const MB = 2 ** 20;

/** CPUs, memory and the size of the file system that holds the data directory. */
export async function machineCapacity(directory: string): Promise<MachineCapacity> {
  const { blocks, bsize } = await statfs(directory);
  return {
    vcpus: navigator.hardwareConcurrency,
    memoryMb: Math.max(Math.floor(Deno.systemMemoryInfo().total / MB) - RESERVED_MEMORY_MB, 0),
    diskMb: Math.floor((blocks * bsize) / MB),
  };
}

/** Model name of the CPU, from /proc/cpuinfo. */
export async function cpuModelName(): Promise<string> {
  const text = await Deno.readTextFile("/proc/cpuinfo");
  return /^model name\s*:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? "unknown";
}

/** Changes with each start of the machine. */
export async function bootId(): Promise<string> {
  return (await Deno.readTextFile("/proc/sys/kernel/random/boot_id")).trim();
}
