import { z } from "@hono/zod-openapi";
import { DELIVERY_STATES, EVENT_ID_PATTERN } from "@torpor/db";
import { ALL_EVENTS, EVENT_TYPES, MAX_URL_BYTES } from "@torpor/webhooks";
import { idText, plainText } from "./text.ts";

/** A week. */
const MAX_OVERLAP_SEC = 604_800;

const url = z.string().min(1).max(MAX_URL_BYTES).openapi({
  description: "Where events are posted to: https, at a public address.",
  example: "https://example.com/hooks/torpor",
});

const description = plainText(256);

const events = z.array(z.enum([...EVENT_TYPES, ALL_EVENTS])).min(1).max(EVENT_TYPES.length + 1)
  .openapi({ description: "What it is told of; `*`: everything, also what is added later." });

export const createWebhookInput = z.strictObject({
  url,
  events: events.default([ALL_EVENTS]),
  description: description.default(""),
}).openapi("CreateWebhook");

export const updateWebhookInput = z.strictObject({
  url: url.optional(),
  events: events.optional(),
  description: description.optional(),
  enabled: z.boolean().optional().openapi({
    description: "false: nothing is written for it or sent to it. true: it begins anew, and what waits is sent.",
  }),
}).openapi("UpdateWebhook");

export const rotateWebhookInput = z.strictObject({
  overlap_sec: z.int().min(0).max(MAX_OVERLAP_SEC).default(86_400).openapi({
    description: "How long the secret that it has signs beside the new one, seconds.",
  }),
}).openapi("RotateWebhookSecret");

export const webhookId = idText;

export const eventId = z.string().regex(EVENT_ID_PATTERN, "must be the id of an event").openapi({
  example: "evt_k2h7q3m5w4x6z7a2b3c4_7",
});

export const listDeliveriesInput = z.strictObject({
  state: z.enum(DELIVERY_STATES).optional(),
  event_id: eventId.optional(),
  limit: z.int().min(1).max(1000).default(100),
  cursor: z.string().max(200).default(""),
});
