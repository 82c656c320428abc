import { z } from "@hono/zod-openapi";
import { type CountedWebhook, DELIVERY_STATES, type DeliveryRow } from "@torpor/db";
import { idText } from "../../inputs/text.ts";

const time = z.iso.datetime();

export const webhookView = z.object({
  webhook_id: idText,
  url: z.string(),
  description: z.string(),
  events: z.array(z.string()),
  state: z.enum(["working", "failing", "disabled"]).openapi({ description: "`failing`: the last attempt failed." }),
  disabled_reason: z.enum(["by_owner", "failing", "gone"]).optional().openapi({
    description: "`failing`: for too long; `gone`: the receiver answered 410.",
  }),
  failing_since: time.nullable().openapi({ description: "Since when no attempt has succeeded." }),
  last_delivered_at: time.nullable().openapi({ description: "To within 10 s." }),
  previous_secret_expires_at: time.nullable().openapi({
    description: "Until when the secret before the last rotation signs, too.",
  }),
  created_at: time,
  pending: z.int().openapi({ description: "Events that wait to be delivered." }),
}).openapi("Webhook");

export const webhookWithSecretView = webhookView.extend({
  secret: z.string().openapi({ description: "It cannot be shown again.", example: "whsec_…" }),
}).openapi("WebhookWithSecret");

export const webhookListView = z.object({ webhooks: z.array(webhookView) }).openapi("WebhookList");

export const deliveryView = z.object({
  event_id: z.string().openapi({ description: "What receivers get as `webhook-id`." }),
  type: z.string(),
  data: z.record(z.string(), z.unknown()),
  occurred_at: time,
  state: z.enum(DELIVERY_STATES),
  attempts: z.int(),
  next_attempt_at: time.nullable(),
  last_attempt_at: time.nullable(),
  took_ms: z.int().nullable().openapi({ description: "Of the last attempt." }),
  response_status: z.int().nullable().openapi({ description: "Of the last answer; null without one." }),
  response_body: z.string().openapi({ description: "How the last answer's body begins, at most 1 KiB." }),
  error: z.string().openapi({ description: "Why the last attempt failed, docs/webhooks.md; empty when it did not." }),
  ended_at: time.nullable(),
}).openapi("WebhookDelivery");

export const deliveryPageView = z.object({
  deliveries: z.array(deliveryView),
  next_cursor: z.string().nullable().openapi({ description: "`cursor` of the next page; null on the last." }),
}).openapi("WebhookDeliveryPage");

/** How a webhook stands. */
export function webhookState({ disabledAt, failingSince }: CountedWebhook): "working" | "failing" | "disabled" {
  if (disabledAt !== null) return "disabled";
  return failingSince === null ? "working" : "failing";
}

/** A webhook as the REST API shows it: without its secret. */
export function viewWebhook(row: CountedWebhook): z.input<typeof webhookView> {
  return {
    webhook_id: row.id,
    url: row.url,
    description: row.description,
    events: row.events,
    state: webhookState(row),
    ...(row.disabledReason === "" ? {} : { disabled_reason: row.disabledReason }),
    failing_since: isoOf(row.failingSince),
    last_delivered_at: isoOf(row.lastDeliveredAt),
    previous_secret_expires_at: isoOf(row.previousSecretExpiresAt),
    created_at: row.createdAt.toISOString(),
    pending: row.pending,
  };
}

/** A delivery as the REST API shows it. */
export function viewDelivery(row: DeliveryRow): z.input<typeof deliveryView> {
  return {
    event_id: row.eventId,
    type: row.type,
    data: row.data as Record<string, unknown>,
    occurred_at: row.occurredAt.toISOString(),
    state: row.state,
    attempts: row.attempts,
    next_attempt_at: isoOf(row.nextAttemptAt),
    last_attempt_at: isoOf(row.lastAttemptAt),
    took_ms: row.tookMs,
    response_status: row.responseStatus,
    response_body: row.responseBody,
    error: row.error,
    ended_at: isoOf(row.endedAt),
  };
}

function isoOf(time: Date | null): string | null {
  return time?.toISOString() ?? null;
}
