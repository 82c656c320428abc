import { Webhook } from "standardwebhooks";

/** One event, as it is sent to one receiver. */
export interface Message {
  /** The same for each attempt, and for every receiver: what receivers recognize repeats by. */
  id: string;
  type: string;
  occurredAt: Date;
  data: unknown;
}

/** The body: the same bytes for each attempt. */
export function messageBody({ type, occurredAt, data }: Message): string {
  return JSON.stringify({ type, timestamp: occurredAt.toISOString(), data });
}

/**
 * The headers of one attempt by the Standard Webhooks specification: `webhook-id`, `webhook-timestamp` (of the attempt,
 * so that an old signature is worth nothing) and one signature for each secret that is valid.
 * @param secrets `whsec_…`
 */
export function signedHeaders(
  { id }: Message,
  body: string,
  secrets: readonly string[],
  at: Date,
): Record<string, string> {
  const signatures = secrets.map((secret) => new Webhook(secret).sign(id, at, body));
  return {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": signatures.join(" "),
  };
}
