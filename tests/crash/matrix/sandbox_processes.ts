/** A VMM or a pager of a host agent. */
export interface SandboxProcess {
  pid: number;
  kind: "vmm" | "pager";
  /** Its standard error: `…/sandboxes/<id>/vmm.log`, or `…/bases/<snapshot>.log` of a pager that siblings share. */
  log: string;
}

/** The VMMs and pagers whose logs lie below `home`. Reads /proc at once, so that nothing ends in between. */
export function sandboxProcesses(home: string): SandboxProcess[] {
  const found: SandboxProcess[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const program = Deno.readLinkSync(`/proc/${name}/exe`).split("/").pop()!;
      const kind = program.startsWith("qemu-system") ? "vmm" : program.startsWith("torpor-") ? "pager" : undefined;
      if (!kind) continue;
      const log = Deno.readLinkSync(`/proc/${name}/fd/2`);
      if (log.startsWith(`${home}/`)) found.push({ pid: Number(name), kind, log });
    } catch (error) {
      // It has ended, is a thread of the kernel, or not ours to look at.
      const { NotFound, PermissionDenied } = Deno.errors;
      const gone = (error as { code?: string }).code === "ESRCH";
      if (!gone && !(error instanceof NotFound) && !(error instanceof PermissionDenied)) throw error;
    }
  }
  return found;
}
