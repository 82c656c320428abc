/** Everything that a webhook can be told of. The triggers of migration 0008 write all but `webhook.test`. */
export const EVENT_TYPES = [
  "sandbox.created",
  "sandbox.running",
  "sandbox.paused",
  "sandbox.resumed",
  "sandbox.deleted",
  "sandbox.failed",
  "sandbox.lost",
  "snapshot.ready",
  "snapshot.failed",
  "snapshot.deleted",
  "fork.succeeded",
  "fork.failed",
] as const;

/** Sent when its owner asks for it, whatever a webhook is told of. */
export const TEST_EVENT_TYPE = "webhook.test";

/** Stands for all of {@linkcode EVENT_TYPES}, those to come included. */
export const ALL_EVENTS = "*";
