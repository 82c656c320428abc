/** Kernel clock ticks per second, as Linux shows them to programs on every architecture. */
const TICKS_PER_SECOND = 100;

interface Stat {
  pid: number;
  parent: number;
  /** Of the process and of its children that have ended. */
  cpuMs: number;
}

function readStats(): Stat[] {
  return [...Deno.readDirSync("/proc")].flatMap(({ name }) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const text = Deno.readTextFileSync(`/proc/${name}/stat`);
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      const ticks = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0);
      return [{ pid: Number(name), parent: Number(fields[1]), cpuMs: ticks * 1000 / TICKS_PER_SECOND }];
    } catch {
      // It has ended while the list was read.
      return [];
    }
  });
}

/** Processor time of a process and its children, ms. */
export function cpuMs(pid: number): number {
  const stats = readStats();
  return stats.filter((stat) => stat.pid === pid || stat.parent === pid).reduce((sum, stat) => sum + stat.cpuMs, 0);
}

/** Memory of a process and its children, MB: what they share is counted once (proportional set size). */
export function memoryMb(pid: number): number {
  const pids = readStats().filter((stat) => stat.pid === pid || stat.parent === pid).map((stat) => stat.pid);
  const kib = pids.map((one) => {
    try {
      return Number(/^Pss:\s+(\d+)/m.exec(Deno.readTextFileSync(`/proc/${one}/smaps_rollup`))?.[1] ?? 0);
    } catch {
      // It has ended meanwhile.
      return 0;
    }
  });
  return kib.reduce((sum, one) => sum + one, 0) * 1024 / 1e6;
}
