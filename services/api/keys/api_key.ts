import { createHash } from "node:crypto";
/** `e2b_` and 40 hexadecimal digits: 160 random bits, in the form that E2B clients demand. */
const API_KEY_PATTERN = /^e2b_[0-9a-f]{40}$/;

/** A new key and what is kept of it. */
export interface NewApiKey {
  /** The secret. It is shown once and not stored. */
  key: string;
  /** SHA-256 of the key, 32 bytes. */
  hash: Uint8Array<ArrayBuffer>;
  /** The first characters, for people to tell keys apart. */
  prefix: string;
}

/** Makes a key from the system's random generator. */
export async function newApiKey(): Promise<NewApiKey> {
  const key = `e2b_${crypto.getRandomValues(new Uint8Array(20)).toHex()}`;
  return { key, hash: await hashApiKey(key), prefix: apiKeyPrefix(key) };
}

/** True when `text` has the form of a key; only such text is looked up. */
export function isApiKey(text: string): boolean {
  return API_KEY_PATTERN.test(text);
}

/** SHA-256 of a key. Keys are random, so an unsalted fast hash gives nothing away. */
export function hashApiKey(key: string): Promise<Uint8Array<ArrayBuffer>> {
  // Each request has one: by Web Crypto this would be a tenth of the api's work.
  return Promise.resolve(new Uint8Array(createHash("sha256").update(key).digest()));
}

/** What may be shown of a key later: `e2b_` and 8 of its 40 digits. */
export function apiKeyPrefix(key: string): string {
  return key.slice(0, 12);
}
