import { TorporError } from "@torpor/errors";

/** A process, identified by more than its pid: pids are used again, start times of one boot are not. */
export interface ProcessInfo {
  pid: number;
  /** Clock ticks after boot (field 22 of /proc/pid/stat). */
  startTime: string;
  argv: string[];
  env: Map<string, string>;
}

/** Every process of this user (of all users, for root) that has a command line; kernel threads have none. */
export function listProcesses(): ProcessInfo[] {
  const found: ProcessInfo[] = [];
  for (const entry of Deno.readDirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry.name)) continue;
    const process = readProcess(Number(entry.name));
    if (process) found.push(process);
  }
  return found;
}

/** The process with this pid, or undefined when it is gone, a zombie, a kernel thread or another user's. */
export function readProcess(pid: number): ProcessInfo | undefined {
  try {
    const stat = readStat(pid);
    const argv = nulSeparated(Deno.readTextFileSync(`/proc/${pid}/cmdline`));
    if (stat.zombie || argv.length === 0) return undefined;
    const env = nulSeparated(Deno.readTextFileSync(`/proc/${pid}/environ`)).map((text): [string, string] => {
      const equals = text.indexOf("=");
      return [text.slice(0, equals), text.slice(equals + 1)];
    });
    return { pid, startTime: stat.startTime, argv, env: new Map(env) };
  } catch (error) {
    if (isGone(error) || error instanceof Deno.errors.PermissionDenied) return undefined;
    throw error;
  }
}

/** True while this very process exists (not another one with its pid). A zombie has ended. */
export function isAlive(process: ProcessInfo): boolean {
  try {
    const stat = readStat(process.pid);
    return stat.startTime === process.startTime && !stat.zombie;
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** Sends a signal; false when the process is gone already. */
export function signalProcess(process: ProcessInfo, signal: Deno.Signal): boolean {
  if (!isAlive(process)) return false;
  try {
    Deno.kill(process.pid, signal);
    return true;
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/**
 * Asks a process to end with SIGTERM and waits until it has.
 * @param graceMs after this time it is killed.
 * @returns "ended" by itself in time, or "killed".
 * @throws TorporError `deadline_exceeded` when it survives SIGKILL for ten seconds (it is stuck in the kernel).
 */
export async function endProcess(process: ProcessInfo, graceMs: number): Promise<"ended" | "killed"> {
  signalProcess(process, "SIGTERM");
  if (await waitUntilGone(process, graceMs)) return "ended";
  signalProcess(process, "SIGKILL");
  if (await waitUntilGone(process, 10_000)) return "killed";
  throw new TorporError("deadline_exceeded", `process ${process.pid} (${process.argv[0]}) does not end`);
}

/** Waits until the process is gone; false when it is still there after `timeoutMs`. */
export async function waitUntilGone(process: ProcessInfo, timeoutMs: number): Promise<boolean> {
  // Not a child of ours, so the kernel tells us nothing: this asks it.
  const deadline = performance.now() + timeoutMs;
  while (isAlive(process)) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

function readStat(pid: number): { startTime: string; zombie: boolean } {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  // The second field is the program's name in parentheses and may contain anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { startTime: fields[19]!, zombie: fields[0] === "Z" || fields[0] === "X" };
}

function nulSeparated(text: string): string[] {
  return text.split("\0").slice(0, -1);
}

/** ESRCH comes from reading a file in /proc of a process that just ended. */
function isGone(error: unknown): boolean {
  if (error instanceof Deno.errors.NotFound) return true;
  return error instanceof Error && "code" in error && error.code === "ESRCH";
}
