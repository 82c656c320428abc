import { TorporError } from "@torpor/errors";

const NONCE_BYTES = 12;
const SALT_BYTES = 16;

/**
 * Encrypts the authority's key for the database: whoever reads the database, or a backup of it, cannot name hosts. The key
 * for that comes from the internal token, which every service of the control plane has and no host.
 */
export async function sealKey(key: Uint8Array<ArrayBuffer>, token: string): Promise<Uint8Array<ArrayBuffer>> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await sealingKey(token, salt), key);
  return new Uint8Array([...salt, ...iv, ...new Uint8Array(sealed)]);
}

/** Decrypts what {@linkcode sealKey} made. @throws TorporError `config_invalid` when it was sealed with another token. */
export async function openKey(sealed: Uint8Array<ArrayBuffer>, token: string): Promise<Uint8Array<ArrayBuffer>> {
  const salt = sealed.slice(0, SALT_BYTES);
  const iv = sealed.slice(SALT_BYTES, SALT_BYTES + NONCE_BYTES);
  const data = sealed.slice(SALT_BYTES + NONCE_BYTES);
  try {
    const key = await sealingKey(token, salt);
    return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, data));
  } catch (cause) {
    throw new TorporError("config_invalid", "the certificate authority was sealed with another TORPOR_INTERNAL_TOKEN", {
      field: "TORPOR_INTERNAL_TOKEN",
      hint: "restore the token; or delete the row of certificate_authority and add all hosts again",
      cause,
    });
  }
}

async function sealingKey(token: string, salt: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  const encoder = new TextEncoder();
  const secret = await crypto.subtle.importKey("raw", encoder.encode(token), "HKDF", false, ["deriveKey"]);
  const info = encoder.encode("torpor certificate authority");
  const derivation = { name: "HKDF", hash: "SHA-256", salt, info };
  return await crypto.subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, [
    "encrypt",
    "decrypt",
  ]);
}
