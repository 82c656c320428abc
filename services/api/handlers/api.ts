import type { Database } from "@torpor/db";
import type { Lifecycle } from "@torpor/lifecycle";
import type { ReconcilerService } from "@torpor/proto/reconciler";
import type { SchedulerService } from "@torpor/proto/scheduler";
import type { ServiceClient } from "@torpor/rpc";
import type { HostPool } from "../hosts/host_pool.ts";
import type { Lifetimes } from "../inputs/sandbox.ts";
import type { WebhookSettings } from "./webhooks.ts";

/** What the handlers work with. REST and ConnectRPC share one set of handlers and one of these. */
export interface Api {
  database: Database;
  lifecycle: Lifecycle;
  hosts: HostPool;
  scheduler: ServiceClient<typeof SchedulerService>;
  /** Of sandboxes whose creator does not say. */
  lifetimes: Lifetimes;
  webhooks: WebhookSettings;
  /** Absent when no reconciler was configured. */
  reconciler: ServiceClient<typeof ReconcilerService> | undefined;
  /** Aborted when the service stops: streams, which may last for days, break off then. */
  stopping: AbortSignal;
}
