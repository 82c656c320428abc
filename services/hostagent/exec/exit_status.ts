/** How a process ended, as callers see it: 128 + signal for one that a signal ended, as a shell tells it. */
export function exitStatus({ exitCode, signal, timedOut }: { exitCode: number; signal: number; timedOut: boolean }) {
  return { exitCode: signal === 0 ? exitCode : 128 + signal, signal, timedOut };
}
