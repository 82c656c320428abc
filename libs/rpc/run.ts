import { log } from "@torpor/telemetry";

/**
 * Runs a service process: starts it, waits for SIGTERM or SIGINT, disposes what `start` returned, and exits.
 * A failed start is logged and exits with 1.
 */
export async function runService(start: () => Promise<AsyncDisposable>): Promise<never> {
  const stopped = Promise.withResolvers<Deno.Signal>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, () => stopped.resolve(signal));
  try {
    await using _service = await start();
    log("info", "stopping", { signal: await stopped.promise });
  } catch (thrown) {
    log("error", "service_failed", {}, thrown);
    Deno.exit(1);
  }
  log("info", "stopped");
  Deno.exit(0);
}
