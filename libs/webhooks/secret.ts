import { TorporError } from "@torpor/errors";

const SECRET_BYTES = 32;
const NONCE_BYTES = 12;
const SALT_BYTES = 16;
const INFO = new TextEncoder().encode("torpor webhook secret");

/** A new secret in the form of the Standard Webhooks specification: `whsec_` and 32 random bytes in base64. */
export function newWebhookSecret(): string {
  return `whsec_${crypto.getRandomValues(new Uint8Array(SECRET_BYTES)).toBase64()}`;
}

/**
 * Encrypts a secret for the database: who reads that, or a backup of it, cannot sign. The key comes from the internal
 * token, which every service of the control plane has.
 */
export async function sealSecret(secret: string, token: string): Promise<Uint8Array<ArrayBuffer>> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const data = new TextEncoder().encode(secret);
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await sealingKey(token, salt), data);
  return new Uint8Array([...salt, ...iv, ...new Uint8Array(sealed)]);
}

/** Decrypts what {@linkcode sealSecret} made. @throws TorporError `config_invalid` when it was sealed with another token. */
export async function openSecret(sealed: Uint8Array, token: string): Promise<string> {
  const bytes = new Uint8Array(sealed);
  const salt = bytes.slice(0, SALT_BYTES);
  const iv = bytes.slice(SALT_BYTES, SALT_BYTES + NONCE_BYTES);
  const data = bytes.slice(SALT_BYTES + NONCE_BYTES);
  try {
    const opened = await crypto.subtle.decrypt({ name: "AES-GCM", iv }, await sealingKey(token, salt), data);
    return new TextDecoder().decode(opened);
  } catch (cause) {
    throw new TorporError("config_invalid", "a webhook's secret was sealed with another TORPOR_INTERNAL_TOKEN", {
      field: "TORPOR_INTERNAL_TOKEN",
      hint: "restore the token, or rotate the webhook's secret",
      cause,
    });
  }
}

async function sealingKey(token: string, salt: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  const secret = await crypto.subtle.importKey("raw", new TextEncoder().encode(token), "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt, info: INFO };
  const use = ["encrypt", "decrypt"] as const;
  return await crypto.subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, [...use]);
}
