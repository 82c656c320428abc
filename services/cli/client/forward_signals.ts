import { TorporError } from "@torpor/errors";

const NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;

/** Sends the signals that this program gets to a process in a sandbox instead. Dispose it to stop. */
export function forwardSignals(send: (signal: number) => Promise<unknown>): Disposable {
  const listeners = Object.entries(NUMBERS).map(([name, number]) => {
    const listener = () => {
      send(number).catch((error) => {
        // The process may have ended meanwhile: its exit is on its way to us.
        if (!(error instanceof TorporError)) throw error;
      });
    };
    Deno.addSignalListener(name as Deno.Signal, listener);
    return () => Deno.removeSignalListener(name as Deno.Signal, listener);
  });
  return { [Symbol.dispose]: () => listeners.forEach((remove) => remove()) };
}
