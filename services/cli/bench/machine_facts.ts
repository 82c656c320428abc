import { cpus } from "node:os";

/** What a measurement was made on. */
export interface MachineFacts {
  date: string;
  processor: string;
  cores: number;
  memory_bytes: number;
  kernel: string;
  deno: string;
}

/** The facts of this machine. */
export function machineFacts(): MachineFacts {
  return {
    date: new Date().toISOString(),
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memory_bytes: Deno.systemMemoryInfo().total,
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
  };
}
