import { TorporError } from "@torpor/errors";
import { x509 } from "./x509.ts";

const PREFIX = "torpor-host";
const SECRET_BYTES = 24;

/** What a new host is given to join: a secret that works once, and the authority by which it knows the scheduler. */
export interface HostToken {
  secret: Uint8Array<ArrayBuffer>;
  /** PEM. */
  authority: string;
}

/** A new one-time secret. */
export function newHostSecret(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
}

/** What the database keeps of a secret. */
export async function hashHostSecret(secret: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", secret));
}

/** The text that an operator carries to the host. */
export function formatHostToken({ secret, authority }: HostToken): string {
  const der = new Uint8Array(new x509.X509Certificate(authority).rawData);
  return [PREFIX, ...[secret, der].map((bytes) => bytes.toBase64({ alphabet: "base64url", omitPadding: true }))]
    .join(".");
}

/** Reads what {@linkcode formatHostToken} wrote. @throws TorporError `config_invalid`. */
export function parseHostToken(text: string): HostToken {
  try {
    const [prefix, secret, der, ...more] = text.trim().split(".");
    if (prefix !== PREFIX || !secret || !der || more.length > 0) throw new Error("not three parts");
    const bytes = Uint8Array.fromBase64(secret, { alphabet: "base64url" });
    const authority = new x509.X509Certificate(Uint8Array.fromBase64(der, { alphabet: "base64url" }));
    return { secret: bytes, authority: authority.toString("pem") };
  } catch (cause) {
    throw new TorporError("config_invalid", "TORPOR_HOST_TOKEN is no registration token of a host", {
      field: "TORPOR_HOST_TOKEN",
      hint: "make one with: torpor host add NAME",
      cause,
    });
  }
}
