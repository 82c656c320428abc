import { x509 } from "./x509.ts";

/** From when to when a certificate is valid. */
export interface Validity {
  notBefore: Date;
  notAfter: Date;
}

/** Reads a PEM certificate's validity. */
export function validityOf(certificate: string): Validity {
  const { notBefore, notAfter } = new x509.X509Certificate(certificate);
  return { notBefore, notAfter };
}

/**
 * How long to wait until a certificate should be renewed, ms: until a third of what is left of its life is over, so that
 * many attempts can fail before it ends. 0: at once.
 */
export function renewalDelayMs(certificate: string, now = Date.now()): number {
  const left = validityOf(certificate).notAfter.getTime() - now;
  return Math.max(0, Math.floor(left / 3));
}
