/**
 * Webhooks: what receivers are told of, which receivers are allowed, and {@linkcode WebhookDeliverer}, which sends what
 * the outbox in the database holds. docs/webhooks.md has the contract.
 */
export * from "./backoff.ts";
export * from "./deliverer.ts";
export { DELIVERY_ERRORS, type DeliveryErrorCode } from "./delivery_error.ts";
export * from "./endpoint_url.ts";
export * from "./events.ts";
export * from "./message.ts";
export * from "./public_address.ts";
export * from "./receiver_address.ts";
export * from "./secret.ts";
export * from "./send.ts";
