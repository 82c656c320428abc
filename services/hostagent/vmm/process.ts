import type { ExitStatus } from "@torpor/ffi";

export const SIGKILL = 9;
export const SIGTERM = 15;

/** How a process ended, for messages. Of an adopted process only that it ended is known. */
export function describeExit(exit: ExitStatus): string {
  if (exit.signal !== null) return `signal ${exit.signal}`;
  return exit.code === null ? "an unknown status" : `status ${exit.code}`;
}
