import { TorporError } from "@torpor/errors";
import { canonicalAddress, isPublicAddress } from "./public_address.ts";

/** Bytes that a URL may have. */
export const MAX_URL_BYTES = 2048;

/** Which receivers are allowed. */
export interface EndpointRules {
  /** TORPOR_WEBHOOK_ALLOW_PRIVATE: also plain http, and addresses that are not public. */
  allowPrivate: boolean;
}

/**
 * Checks the URL that a webhook is to call. Names are not resolved here: what they resolve to is checked before each
 * attempt, because it can change.
 * @throws TorporError `invalid_argument` (field `url`).
 */
export function parseEndpointUrl(text: string, { allowPrivate }: EndpointRules): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || new TextEncoder().encode(url.href).length > MAX_URL_BYTES) {
    throw refused(`url must be an absolute URL of at most ${MAX_URL_BYTES} bytes`);
  }
  if (url.protocol !== "https:" && !(allowPrivate && url.protocol === "http:")) {
    throw refused("url must begin with https://");
  }
  if (url.username !== "" || url.password !== "") throw refused("url must not contain a user or password");
  if (url.hash !== "") throw refused("url must not contain a fragment");
  const address = literalAddress(url);
  const isLocalName = /(^|\.)localhost\.?$/.test(url.hostname);
  if (!allowPrivate && (isLocalName || address !== undefined && !isPublicAddress(address))) {
    throw refused(`${url.hostname} is not a public address`);
  }
  return url;
}

/** The address that stands in a URL instead of a name. */
export function literalAddress({ hostname }: URL): string | undefined {
  return canonicalAddress(hostname.replace(/^\[(.*)\]$/, "$1"));
}

function refused(message: string): TorporError {
  return new TorporError("invalid_argument", message, {
    field: "url",
    hint: "a deployment that calls receivers in its own network sets TORPOR_WEBHOOK_ALLOW_PRIVATE=1",
  });
}
