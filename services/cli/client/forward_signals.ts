import { TorporError } from "@torpor/errors";

const NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;

/**
 * Sends the signals that this program gets to a process in a sandbox instead. Dispose it to stop. Behind one that did not
 * get through, because the connection is broken, the next one ends this program: the process goes on.
 */
export function forwardSignals(send: (signal: number) => Promise<unknown>): Disposable {
  let undelivered = false;
  const forward = async (number: number) => {
    if (undelivered) Deno.exit(128 + number);
    try {
      await send(number);
    } catch (error) {
      if (!(error instanceof TorporError)) throw error;
      // Of all other codes: the process may have ended meanwhile, and its exit is on its way to us.
      if (error.code !== "unavailable") return;
      undelivered = true;
      console.error("torpor: the signal did not get through; the next one leaves the command running");
    }
  };
  const listeners = Object.entries(NUMBERS).map(([name, number]) => {
    const listener = () => void forward(number);
    Deno.addSignalListener(name as Deno.Signal, listener);
    return () => Deno.removeSignalListener(name as Deno.Signal, listener);
  });
  return { [Symbol.dispose]: () => listeners.forEach((remove) => remove()) };
}
