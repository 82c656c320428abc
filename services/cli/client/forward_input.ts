import { TorporError } from "@torpor/errors";

/**
 * Sends this program's stdin to a process in a sandbox, chunk after chunk, and its end. A process that has ended or has
 * closed its stdin takes no more: that is no error. Dispose it to stop reading.
 */
export function forwardInput(send: (data: Uint8Array, eof: boolean) => Promise<unknown>): AsyncDisposable {
  const reader = Deno.stdin.readable.getReader();
  const forward = async () => {
    try {
      for (;;) {
        const { done, value } = await reader.read();
        await send(value ?? new Uint8Array(), done);
        if (done) return;
      }
    } catch (error) {
      if (!(error instanceof TorporError)) throw error;
      // Whether these bytes have arrived is not known, so they are not sent again. All other codes are explained by the exit
      // of the process, which the other stream reports.
      if (error.code === "unavailable") console.error("torpor: stdin broke off, and is no longer passed on");
      await reader.cancel();
    }
  };
  const finished = forward();
  // An error is kept for the dispose; until then nobody awaits it.
  finished.catch(() => {});
  return {
    [Symbol.asyncDispose]: async () => {
      await reader.cancel();
      await finished;
    },
  };
}
