import { adoptProcess, NativeError, processStartTime } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { namesIn, readIfPresent, removeIfPresent } from "../storage/durable_file.ts";
import type { HostContext } from "./context.ts";

/**
 * Kills VMMs of a sandbox that no record points to: an agent that was killed between starting a VMM and noting it leaves
 * one. They are found by the socket path on their command line, which only they have. Pagers end with their VMM.
 */
export async function killStrays(context: HostContext, sandboxId: string): Promise<void> {
  await killMarked(context.driver.commandLineMark(context.layout.sandbox(sandboxId)), new Set());
}

/** Kills the spare VMMs of an earlier agent but those that sandboxes have taken and kept, and removes their files. */
export async function killSpares({ layout }: HostContext, taken: ReadonlySet<number>): Promise<void> {
  await killMarked(`${layout.spares}/`, taken);
  await removeIfPresent(layout.spares);
}

async function killMarked(mark: string, spared: ReadonlySet<number>): Promise<void> {
  for (const name of await namesIn("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === Deno.pid || spared.has(pid)) continue;
    if (!await commandLineHas(pid, mark)) continue;
    const process = adopt(pid, mark);
    if (!process) continue;
    log("warn", "stray_vmm_killed", { pid, mark });
    await process[Symbol.asyncDispose]();
  }
}

async function commandLineHas(pid: number, mark: string): Promise<boolean> {
  try {
    return (await readIfPresent(`/proc/${pid}/cmdline`) ?? "").includes(mark);
  } catch {
    // It has ended while it was being read (ESRCH).
    return false;
  }
}

function adopt(pid: number, mark: string) {
  try {
    return adoptProcess({ pid, startTime: processStartTime(pid), commandLineIncludes: mark });
  } catch (error) {
    if (error instanceof NativeError && error.code === "native_enoent") return null;
    throw error;
  }
}
