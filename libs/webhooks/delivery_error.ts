/** Why an attempt to deliver an event failed, as deliveries show it. */
export const DELIVERY_ERRORS = {
  name_not_resolved: "the receiver's name has no address",
  address_not_public: "the receiver's name or URL leads to an address that is not public",
  connection_failed: "no connection to the receiver, or it broke off",
  tls_failed: "the receiver's certificate is not valid for its name",
  timed_out: "the receiver did not answer in time",
  redirected: "the receiver answered with a redirect, which is not followed",
  refused: "the receiver answered with a status other than 2xx",
  gone: "the receiver answered 410: it wants no events any more",
  secret_unreadable: "the secret was sealed with another internal token; rotate it",
  internal: "the deployment failed; the reconciler's log says why",
} as const;

/** One of the keys of {@linkcode DELIVERY_ERRORS}. */
export type DeliveryErrorCode = keyof typeof DELIVERY_ERRORS;

/** An attempt that has failed before there was an answer. */
export class DeliveryError extends Error {
  override readonly name = "DeliveryError";

  constructor(readonly code: DeliveryErrorCode, cause?: unknown) {
    super(DELIVERY_ERRORS[code], { cause });
  }
}
