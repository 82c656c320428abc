import { log } from "@torpor/telemetry";

/** What a service's start returns. */
export interface StartedService extends AsyncDisposable {
  /** Resolves when the service has ended by its own decision. */
  finished?: Promise<void>;
}

/**
 * Runs a service process: starts it, waits for SIGTERM, SIGINT or the service's own end, disposes what `start` returned,
 * and exits. A failed start is logged and exits with 1.
 */
export async function runService(start: () => Promise<StartedService>): Promise<never> {
  const stopped = Promise.withResolvers<Deno.Signal | "finished">();
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, () => stopped.resolve(signal));
  try {
    await using service = await start();
    service.finished?.then(() => stopped.resolve("finished"));
    log("info", "stopping", { reason: await stopped.promise });
  } catch (thrown) {
    log("error", "service_failed", {}, thrown);
    Deno.exit(1);
  }
  log("info", "stopped");
  Deno.exit(0);
}
