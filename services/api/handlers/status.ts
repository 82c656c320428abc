import { countSandboxesByState, countWebhooks, type SandboxState, type WebhookCounts } from "@torpor/db";
import { asTorporError } from "@torpor/errors";
import type { GetStatusResponse } from "@torpor/proto/reconciler";
import type { Host } from "@torpor/proto/scheduler";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";

/** A part of the system that was asked: its answer, or why there is none. */
export type Answered<T> = { answer: T } | { errorCode: string };

/** How the deployment stands. */
export interface Status {
  /** The team's sandboxes, by state; deleted ones are not counted. */
  sandboxes: Partial<Record<SandboxState, number>>;
  hosts: Answered<Host[]>;
  /** The team's. */
  webhooks: WebhookCounts;
  /** Undefined when no reconciler was configured. */
  reconciler: Answered<GetStatusResponse> | undefined;
}

/**
 * How the deployment stands. A part that does not answer is part of the answer.
 * @throws TorporError `unavailable` when the database cannot be reached.
 */
export async function getStatus(api: Api, caller: Caller): Promise<Status> {
  const [sandboxes, webhooks, hosts, reconciler] = await Promise.all([
    countSandboxesByState(api.database.sql, caller.teamId),
    countWebhooks(api.database.sql, caller.teamId),
    ask(api.scheduler.listHosts({}).then((response) => response.hosts)),
    api.reconciler && ask(api.reconciler.getStatus({})),
  ]);
  return { sandboxes, webhooks, hosts, reconciler };
}

async function ask<T>(call: Promise<T>): Promise<Answered<T>> {
  try {
    return { answer: await call };
  } catch (thrown) {
    return { errorCode: asTorporError(thrown).code };
  }
}
