import { TorporError } from "@torpor/errors";
import { KEY_ALGORITHM, SIGNATURE_ALGORITHM, x509 } from "./x509.ts";

/** A new key and the request for a certificate for it. Both PEM. */
export interface CertificateRequest {
  /** PKCS #8. It stays where it was made. */
  key: string;
  /** PKCS #10, signed with the key. It names nobody: who asks is decided by who issues. */
  request: string;
}

/** Makes a key and a request for a certificate. */
export async function createRequest(): Promise<CertificateRequest> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: SIGNATURE_ALGORITHM });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { key: x509.PemConverter.encode(key, "PRIVATE KEY"), request: request.toString("pem") };
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
