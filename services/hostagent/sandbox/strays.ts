import { adoptProcess, NativeError, processStartTime } from "@torpor/ffi";
import { log } from "@torpor/telemetry";
import { namesIn, readIfPresent } from "../storage/durable_file.ts";
import type { HostContext } from "./context.ts";

/**
 * Kills VMMs of a sandbox that no record points to: an agent that was killed between starting a VMM and noting it leaves
 * one. They are found by the socket path on their command line, which only they have. Pagers end with their VMM.
 */
export async function killStrays(context: HostContext, sandboxId: string): Promise<void> {
  const mark = context.driver.commandLineMark(context.layout.sandbox(sandboxId));
  for (const name of await namesIn("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === Deno.pid) continue;
    if (!await commandLineHas(pid, mark)) continue;
    const process = adopt(pid, mark);
    if (!process) continue;
    log("warn", "stray_vmm_killed", { sandbox_id: sandboxId, pid });
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
