import { Layout } from "../../../services/hostagent/storage/layout.ts";
import type { Arena } from "./arena.ts";

/** What the intruder's sandbox uses of the host. */
export interface HostUse {
  threads: number;
  /** Memory of its VMM, guest memory included. */
  residentBytes: number;
  guestBytes: number;
  /** Allocated bytes of its writable disk. */
  diskBytes: number;
  diskLimitBytes: number;
  consoleBytes: number;
  /** Connections that the kernel keeps track of in the agent's namespace, of all sandboxes. */
  tracked: number;
}

/** Measured from outside. */
export async function hostUse({ home, ground, intruder, memoryMb, diskMb }: Arena): Promise<HostUse> {
  const pid = await vmmOf(intruder.id);
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)![1]);
  const { disk, consoleLog } = new Layout(home).sandbox(intruder.id);
  return {
    threads: field("Threads"),
    residentBytes: field("VmRSS") * 1024,
    guestBytes: memoryMb * 2 ** 20,
    diskBytes: ((await Deno.stat(disk)).blocks ?? 0) * 512,
    diskLimitBytes: diskMb * 2 ** 20,
    consoleBytes: await sizeOf(consoleLog) + await sizeOf(`${consoleLog}.1`),
    tracked: Number(await ground.agent.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count")),
  };
}

/** The VMM of a sandbox: its name is in its command line. */
async function vmmOf(id: string): Promise<number> {
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const commandLine = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (commandLine.startsWith("/usr/bin/qemu") && commandLine.includes(id)) return Number(name);
  }
  throw new Error(`${id} has no VMM`);
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
