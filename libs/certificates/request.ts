import { createPrivateKey, createPublicKey } from "node:crypto";
import { TorporError } from "@torpor/errors";
import { KEY_ALGORITHM, SIGNATURE_ALGORITHM, x509 } from "./x509.ts";

/** Makes a key: PKCS #8, PEM. It stays where it was made. */
export async function createKey(): Promise<string> {
  const { privateKey } = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  return x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", privateKey), "PRIVATE KEY");
}

/**
 * A request for a certificate for a key, signed with it: PKCS #10, PEM. It names nobody, as who asks is decided by who
 * issues.
 * @param key from {@linkcode createKey}.
 */
export async function requestFor(key: string): Promise<string> {
  const secret = createPrivateKey(key);
  const [pkcs8, spki] = [
    secret.export({ type: "pkcs8", format: "der" }),
    createPublicKey(secret).export({ type: "spki", format: "der" }),
  ];
  const keys = {
    privateKey: await crypto.subtle.importKey("pkcs8", new Uint8Array(pkcs8), KEY_ALGORITHM, false, ["sign"]),
    publicKey: await crypto.subtle.importKey("spki", new Uint8Array(spki), KEY_ALGORITHM, true, ["verify"]),
  };
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: SIGNATURE_ALGORITHM });
  return request.toString("pem");
}

/** A request for a certificate that was checked. */
export interface ReadRequest {
  publicKey: x509.PublicKey;
  /** SHA-256 of the public key. */
  keyHash: Uint8Array<ArrayBuffer>;
}

/**
 * Reads a request for a certificate and checks that who made it has the key.
 * @throws TorporError `invalid_argument`: no such request, another kind of key than ECDSA P-256, or a wrong signature.
 */
export async function readRequest(pem: string): Promise<ReadRequest> {
  try {
    const request = new x509.Pkcs10CertificateRequest(pem);
    const { name, namedCurve } = request.publicKey.algorithm as EcKeyAlgorithm;
    const known = name === KEY_ALGORITHM.name && namedCurve === KEY_ALGORITHM.namedCurve;
    if (!known || !await request.verify()) throw new Error("not ECDSA P-256, or not signed with its key");
    const hash = await crypto.subtle.digest("SHA-256", request.publicKey.rawData);
    return { publicKey: request.publicKey, keyHash: new Uint8Array(hash) };
  } catch (cause) {
    throw new TorporError("invalid_argument", "certificate_request is no valid PKCS #10 request for a P-256 key", {
      field: "certificate_request",
      cause,
    });
  }
}
