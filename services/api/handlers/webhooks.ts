import type { z } from "zod";
import {
  type CountedWebhook,
  deleteWebhook as removeWebhook,
  type DeliveryPage,
  type DeliveryRow,
  getWebhook as findWebhook,
  insertDelivery,
  insertWebhook,
  listDeliveries,
  listWebhooks as queryWebhooks,
  retryDelivery,
  rotateWebhookSecret,
  updateWebhook as changeWebhook,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { newWebhookSecret, parseEndpointUrl, sealSecret, TEST_EVENT_TYPE } from "@torpor/webhooks";
import type {
  createWebhookInput,
  listDeliveriesInput,
  rotateWebhookInput,
  updateWebhookInput,
} from "../inputs/webhook.ts";
import type { Caller } from "../keys/caller.ts";
import type { Api } from "./api.ts";

/** How the deployment treats webhooks. */
export interface WebhookSettings {
  /** TORPOR_WEBHOOK_ALLOW_PRIVATE. */
  allowPrivate: boolean;
  /** TORPOR_INTERNAL_TOKEN: secrets are sealed with it. */
  token: string;
}

/** A webhook with the secret that was made for it, which is shown this once. */
export interface WebhookWithSecret {
  webhook: CountedWebhook;
  secret: string;
}

/**
 * Makes a webhook.
 * @throws TorporError `invalid_argument` (field `url`); `quota_exceeded` when the team has as many as it may.
 */
export async function createWebhook(
  api: Api,
  caller: Caller,
  input: z.output<typeof createWebhookInput>,
): Promise<WebhookWithSecret> {
  const { allowPrivate, token } = api.webhooks;
  const url = parseEndpointUrl(input.url, { allowPrivate }).href;
  const secret = newWebhookSecret();
  const row = await insertWebhook(api.database, {
    id: newId(),
    teamId: caller.teamId,
    url,
    description: input.description,
    events: [...new Set(input.events)],
    secret: await sealSecret(secret, token),
  });
  return { webhook: { ...row, pending: 0 }, secret };
}

/** The team's webhooks, newest first. */
export async function listWebhooks(api: Api, caller: Caller): Promise<CountedWebhook[]> {
  return await queryWebhooks(api.database.sql, caller.teamId);
}

/** One webhook of the team. @throws TorporError `webhook_not_found`, also for another team's. */
export async function getWebhook(api: Api, caller: Caller, id: string): Promise<CountedWebhook> {
  return await findWebhook(api.database.sql, caller.teamId, id) ?? notFound(id);
}

/**
 * Changes a webhook; events that wait go to its new URL.
 * @throws TorporError `webhook_not_found`; `invalid_argument` (field `url`).
 */
export async function updateWebhook(
  api: Api,
  caller: Caller,
  id: string,
  { url, events, description, enabled }: z.output<typeof updateWebhookInput>,
): Promise<CountedWebhook> {
  const changes = {
    url: url === undefined ? undefined : parseEndpointUrl(url, api.webhooks).href,
    events: events && [...new Set(events)],
    description,
    enabled,
  };
  if (!await changeWebhook(api.database.sql, caller.teamId, id, changes)) notFound(id);
  return await getWebhook(api, caller, id);
}

/** Ends a webhook; what has not been delivered is given up. @throws TorporError `webhook_not_found`. */
export async function deleteWebhook(api: Api, caller: Caller, id: string): Promise<void> {
  if (!await removeWebhook(api.database.sql, caller.teamId, id)) notFound(id);
}

/** Gives a webhook a new secret. @throws TorporError `webhook_not_found`. */
export async function rotateSecret(
  api: Api,
  caller: Caller,
  id: string,
  { overlap_sec }: z.output<typeof rotateWebhookInput>,
): Promise<WebhookWithSecret> {
  const secret = newWebhookSecret();
  const sealed = await sealSecret(secret, api.webhooks.token);
  if (!await rotateWebhookSecret(api.database.sql, caller.teamId, id, sealed, overlap_sec)) notFound(id);
  return { webhook: await getWebhook(api, caller, id), secret };
}

/**
 * Has a `webhook.test` event delivered.
 * @throws TorporError `webhook_not_found`; `conflict` when it is disabled.
 */
export async function testWebhook(api: Api, caller: Caller, id: string): Promise<DeliveryRow> {
  const webhook = await getWebhook(api, caller, id);
  requireEnabled(webhook);
  const eventId = `evt_${newId()}`;
  return await insertDelivery(api.database.sql, {
    webhookId: id,
    eventId,
    type: TEST_EVENT_TYPE,
    data: { webhook_id: id },
  });
}

/** What became of the events for a webhook, newest first. @throws TorporError `webhook_not_found`; `invalid_argument`. */
export async function listWebhookDeliveries(
  api: Api,
  caller: Caller,
  id: string,
  { state, event_id, limit, cursor }: z.output<typeof listDeliveriesInput>,
): Promise<DeliveryPage> {
  await getWebhook(api, caller, id);
  return await listDeliveries(api.database.sql, id, { state, eventId: event_id, limit, cursor });
}

/**
 * Has an event sent again at once.
 * @throws TorporError `webhook_not_found`, `delivery_not_found`; `conflict` when the webhook is disabled.
 */
export async function retryWebhookDelivery(
  api: Api,
  caller: Caller,
  id: string,
  eventId: string,
): Promise<DeliveryRow> {
  requireEnabled(await getWebhook(api, caller, id));
  const row = await retryDelivery(api.database.sql, id, eventId);
  if (row) return row;
  throw new TorporError("delivery_not_found", `webhook ${id} has no event ${eventId}`);
}

function requireEnabled({ id, disabledAt, disabledReason }: CountedWebhook): void {
  if (disabledAt === null) return;
  throw new TorporError("conflict", `webhook ${id} is disabled (${disabledReason})`, { hint: "enable it first" });
}

function notFound(id: string): never {
  throw new TorporError("webhook_not_found", `no webhook ${id}`);
}
