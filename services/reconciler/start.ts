import { LazyControlCredentials } from "@torpor/certificates";
import { openDatabase } from "@torpor/db";
import { HostClients, Lifecycle } from "@torpor/lifecycle";
import { ReconcilerService } from "@torpor/proto/reconciler";
import { SchedulerService } from "@torpor/proto/scheduler";
import { type Address, openClient, type RunningService, serve } from "@torpor/rpc";
import { type DelivererOptions, WebhookDeliverer } from "@torpor/webhooks";
import { observeCensus } from "./census.ts";
import { ReconcileLoop } from "./loop.ts";

/** Configuration of {@linkcode startReconciler}. */
export interface ReconcilerConfig {
  listen: Address;
  /** TORPOR_INTERNAL_TOKEN, for callers and for the services that it calls. */
  token: string;
  databaseUrl: string;
  schedulerUrl: string;
  /** Time between two passes, ms. */
  intervalMs: number;
  /** A sandbox that changed its state more recently than this is not judged, ms: it may be in flight. */
  graceMs: number;
  /** A host that was not heard for longer than this, and does not answer, is lost with its sandboxes, ms. */
  hostGraceMs: number;
  /** How long failed snapshots are shown before they are deleted, ms. Default 24 h. */
  failedRetentionMs?: number;
  /** How long entries of the audit log are kept, ms. Default 90 days. */
  auditRetentionMs?: number;
  /** See LifecycleOptions; default: graceMs. */
  unknownGraceMs?: number;
  /** How events are delivered; absent: to public receivers, kept for a week, disabled after three days of failures. */
  webhooks?: Partial<Omit<DelivererOptions, "database" | "token">>;
}

const WEBHOOKS = { allowPrivate: false, retentionMs: 604_800_000, disableAfterMs: 259_200_000 };

/**
 * Starts a reconciler. Any number may run; the one that holds the advisory lock compares and repairs, the others stand by.
 * All of them deliver the events of webhooks.
 */
export async function startReconciler(config: ReconcilerConfig): Promise<RunningService> {
  await using stack = new AsyncDisposableStack();
  const database = stack.use(openDatabase(config.databaseUrl));
  const { schedulerUrl, token } = config;
  const { get: credentials } = stack.use(new LazyControlCredentials(database, token, "reconciler"));
  const scheduler = stack.use(openClient(SchedulerService, { address: schedulerUrl, token, credentials }));
  const hosts = stack.use(new HostClients(token, credentials));
  const host = (address: string) => hosts.at(address);
  const { unknownGraceMs = config.graceMs, failedRetentionMs = 86_400_000 } = config;
  const { auditRetentionMs = 90 * 86_400_000 } = config;
  const lifecycle = stack.use(new Lifecycle({ database, scheduler, hosts: host, unknownGraceMs }));
  const loop = stack.use(
    new ReconcileLoop({ ...config, failedRetentionMs, auditRetentionMs, database, lifecycle, host }),
  );
  stack.use(observeCensus(database, () => loop.leads));
  const deliverer = stack.use(new WebhookDeliverer({ ...WEBHOOKS, ...config.webhooks, database, token }));
  const service = stack.use(
    await serve({
      listen: config.listen,
      token: config.token,
      checkReady: () => database.checkReady(),
      routes: (router) =>
        router.service(ReconcilerService, {
          reconcile: () => loop.reconcileNow(),
          getStatus: () => loop.status(),
        }),
    }),
  );
  loop.start();
  deliverer.start();
  const resources = stack.move();
  return { address: service.address, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
