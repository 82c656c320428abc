import { z } from "zod";
import type { Api } from "./api.ts";

/** A webhook as the REST surface shows it. */
export const webhookSchema = z.looseObject({
  webhook_id: z.string(),
  url: z.string(),
  description: z.string(),
  events: z.array(z.string()),
  state: z.string(),
  disabled_reason: z.string().optional(),
  failing_since: z.iso.datetime().nullable(),
  last_delivered_at: z.iso.datetime().nullable(),
  pending: z.int(),
});

/** What {@linkcode webhookSchema} reads. */
export type WebhookView = z.infer<typeof webhookSchema>;

/** And one whose secret is shown this once. */
export const webhookWithSecretSchema = webhookSchema.extend({ secret: z.string() });

/** One event for a webhook as the REST surface shows it. */
export const deliverySchema = z.looseObject({
  event_id: z.string(),
  type: z.string(),
  occurred_at: z.iso.datetime(),
  state: z.string(),
  attempts: z.int(),
  next_attempt_at: z.iso.datetime().nullable(),
  took_ms: z.int().nullable(),
  response_status: z.int().nullable(),
  response_body: z.string(),
  error: z.string(),
});

/** What {@linkcode deliverySchema} reads. */
export type DeliveryView = z.infer<typeof deliverySchema>;

/** The path of a webhook. */
export function webhookPath(id: string): string {
  return `/v1/webhooks/${encodeURIComponent(id)}`;
}

/** A call with a JSON body, whose answer is read by `schema`. */
export async function sendJson<Schema extends z.ZodType>(
  api: Api,
  method: "POST" | "PATCH",
  path: string,
  body: unknown,
  schema: Schema,
): Promise<z.output<Schema>> {
  const headers = { "content-type": "application/json" };
  const response = await api.rest(path, { method, headers, body: JSON.stringify(body) });
  return schema.parse(await response.json());
}
