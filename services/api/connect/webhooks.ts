import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { CountedWebhook, DeliveryRow } from "@torpor/db";
import type { WebhookDeliverySchema, WebhookSchema, WebhookService } from "@torpor/proto/webhook";
import { z } from "zod";
import type { Api } from "../handlers/api.ts";
import {
  createWebhook,
  deleteWebhook,
  getWebhook,
  listWebhookDeliveries,
  listWebhooks,
  retryWebhookDelivery,
  rotateSecret,
  testWebhook,
  updateWebhook,
} from "../handlers/webhooks.ts";
import { parseInput } from "../inputs/parse.ts";
import {
  createWebhookInput,
  eventId,
  listDeliveriesInput,
  rotateWebhookInput,
  updateWebhookInput,
  webhookId,
} from "../inputs/webhook.ts";
import { webhookState } from "../rest/views/webhook.ts";
import { callerOf } from "./gate.ts";

const webhookReference = z.object({ webhook_id: webhookId });
const deliveryReference = webhookReference.extend({ event_id: eventId });

/** The methods about webhooks. */
export function webhookMethods(api: Api): ServiceImpl<typeof WebhookService> {
  return {
    async createWebhook({ url, events, description }, context) {
      const input = parseInput(createWebhookInput, { url, events: given(events), description });
      const { webhook, secret } = await createWebhook(api, callerOf(context), input);
      return { webhook: webhookMessage(webhook), secret };
    },
    async getWebhook(request, context) {
      return { webhook: webhookMessage(await getWebhook(api, callerOf(context), idOf(request))) };
    },
    async listWebhooks(_request, context) {
      return { webhooks: (await listWebhooks(api, callerOf(context))).map(webhookMessage) };
    },
    async updateWebhook(request, context) {
      const { url, events, description, enabled } = request;
      const input = parseInput(updateWebhookInput, { url, events: given(events), description, enabled });
      return { webhook: webhookMessage(await updateWebhook(api, callerOf(context), idOf(request), input)) };
    },
    async deleteWebhook(request, context) {
      await deleteWebhook(api, callerOf(context), idOf(request));
      return {};
    },
    async rotateWebhookSecret(request, context) {
      const input = parseInput(rotateWebhookInput, { overlap_sec: request.overlapSec });
      const { webhook, secret } = await rotateSecret(api, callerOf(context), idOf(request), input);
      return { webhook: webhookMessage(webhook), secret };
    },
    async testWebhook(request, context) {
      return { delivery: deliveryMessage(await testWebhook(api, callerOf(context), idOf(request))) };
    },
    async listWebhookDeliveries(request, context) {
      const input = parseInput(listDeliveriesInput, {
        state: request.state || undefined,
        event_id: request.eventId || undefined,
        limit: request.pageSize || undefined,
        cursor: request.cursor,
      });
      const page = await listWebhookDeliveries(api, callerOf(context), idOf(request), input);
      return { deliveries: page.deliveries.map(deliveryMessage), nextCursor: page.nextCursor };
    },
    async retryWebhookDelivery({ webhookId, eventId }, context) {
      const { webhook_id, event_id } = parseInput(deliveryReference, { webhook_id: webhookId, event_id: eventId });
      return { delivery: deliveryMessage(await retryWebhookDelivery(api, callerOf(context), webhook_id, event_id)) };
    },
  };
}

function idOf({ webhookId }: { webhookId: string }): string {
  return parseInput(webhookReference, { webhook_id: webhookId }).webhook_id;
}

/** An empty list was not given. */
function given(list: string[]): string[] | undefined {
  return list.length > 0 ? list : undefined;
}

function webhookMessage(row: CountedWebhook): MessageInitShape<typeof WebhookSchema> {
  return {
    webhookId: row.id,
    url: row.url,
    description: row.description,
    events: row.events,
    state: webhookState(row),
    disabledReason: row.disabledReason,
    failingSince: timeOf(row.failingSince),
    lastDeliveredAt: timeOf(row.lastDeliveredAt),
    previousSecretExpiresAt: timeOf(row.previousSecretExpiresAt),
    createdAt: timeOf(row.createdAt),
    pending: row.pending,
  };
}

function deliveryMessage(row: DeliveryRow): MessageInitShape<typeof WebhookDeliverySchema> {
  return {
    eventId: row.eventId,
    type: row.type,
    data: row.data as JsonObject,
    occurredAt: timeOf(row.occurredAt),
    state: row.state,
    attempts: row.attempts,
    nextAttemptAt: timeOf(row.nextAttemptAt),
    lastAttemptAt: timeOf(row.lastAttemptAt),
    tookMs: row.tookMs ?? 0,
    responseStatus: row.responseStatus ?? 0,
    responseBody: row.responseBody,
    error: row.error,
    endedAt: timeOf(row.endedAt),
  };
}

function timeOf(time: Date | null) {
  return time === null ? undefined : timestampFromDate(time);
}
