import { adoptProcess, NativeError, type Process, processStartTime } from "@torpor/ffi";

const ENOENT = 2;

/**
 * Finds the base pager with this mark: its keeper or, right after that was killed, the server that becomes the keeper.
 * @returns undefined when both of its processes have ended. @throws NativeError.
 */
export function findBaseProcess(mark: string): Process | undefined {
  const found = new Map<number, number>();
  for (const [pid, commandLine] of commandLines()) {
    if (!commandLine.includes(mark)) continue;
    found.set(pid, Number(/^PPid:\s+(\d+)$/m.exec(readProc(`${pid}/status`))?.[1]));
  }
  for (const [pid, parent] of found) {
    const process = found.has(parent) ? undefined : adopt(pid, mark);
    if (process) return process;
  }
  return undefined;
}

/** Those of the marks whose base pager has a process; nothing is opened, watched or ended. */
export function runningBases(marks: readonly string[]): Set<string> {
  if (marks.length === 0) return new Set();
  const lines = [...commandLines()].map(([, commandLine]) => commandLine);
  return new Set(marks.filter((mark) => lines.some((line) => line.includes(mark))));
}

/** Of all processes; that of one which has ended is empty. */
function* commandLines(): Generator<[pid: number, commandLine: string]> {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (/^\d+$/.test(name)) yield [Number(name), readProc(`${name}/cmdline`)];
  }
}

/** The number that a memory file has inside a process. @throws NativeError `native_enoent` when the process does not have it. */
export function findMemoryFile(process: Process, inode: bigint): number {
  const directory = `/proc/${process.pid}/fd`;
  for (const { name } of Deno.readDirSync(directory)) {
    try {
      const path = `${directory}/${name}`;
      // Inode numbers repeat across file systems; memory files that have names are on one of their own.
      if (!Deno.readLinkSync(path).startsWith("/memfd:")) continue;
      if (Deno.statSync(path).ino === Number(inode)) return Number(name);
    } catch (error) {
      // Closed meanwhile.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new NativeError("findMemoryFile", ENOENT, { detail: `inode ${inode} in process ${process.pid}` });
}

/** A file of a process below /proc; empty when that has ended. */
function readProc(path: string): string {
  try {
    return Deno.readTextFileSync(`/proc/${path}`);
  } catch {
    // NotFound, or ESRCH when it has ended while it was being read: which other codes there are says no document.
    return "";
  }
}

function adopt(pid: number, mark: string): Process | undefined {
  try {
    return adoptProcess({ pid, startTime: processStartTime(pid), commandLineIncludes: mark }) ?? undefined;
  } catch (error) {
    if (error instanceof NativeError && error.code === "native_enoent") return undefined;
    throw error;
  }
}
