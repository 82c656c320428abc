// The library's dependency injection demands the polyfill before its own first line.
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

/** Keys are ECDSA on P-256 everywhere: small, and every TLS library takes them. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;

export const SIGNATURE_ALGORITHM = { name: "ECDSA", hash: "SHA-256" } as const;

export { x509 };
