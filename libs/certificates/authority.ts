import { TorporError } from "@torpor/errors";
import { dnsNameOf } from "@torpor/rpc";
import { KEY_ALGORITHM, SIGNATURE_ALGORITHM, x509 } from "./x509.ts";

/** Clocks of machines differ: a certificate is valid from this long before it was issued, ms. */
const CLOCK_SKEW_MS = 5 * 60_000;

const AUTHORITY_LIFE_MS = 20 * 365 * 86_400_000;

/** What makes an {@linkcode Authority}. Who has it can name himself anything in this deployment. */
export interface AuthorityMaterial {
  /** PEM. */
  certificate: string;
  /** PKCS #8, DER. */
  key: Uint8Array<ArrayBuffer>;
}

/** Makes a new authority. */
export async function createAuthority(): Promise<AuthorityMaterial> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=Torpor authority",
    serialNumber: randomSerial(),
    notBefore: new Date(Date.now() - CLOCK_SKEW_MS),
    notAfter: new Date(Date.now() + AUTHORITY_LIFE_MS),
    keys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const key = new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  return { certificate: certificate.toString("pem"), key };
}

/** Issues certificates. */
export class Authority {
  private constructor(
    /** PEM. */
    readonly certificate: string,
    private readonly issuer: string,
    private readonly key: CryptoKey,
    private readonly keyIdentifier: x509.AuthorityKeyIdentifierExtension,
  ) {}

  /** Opens an authority. */
  static async open(material: AuthorityMaterial): Promise<Authority> {
    const certificate = new x509.X509Certificate(material.certificate);
    const key = await crypto.subtle.importKey("pkcs8", material.key, KEY_ALGORITHM, false, ["sign"]);
    const identifier = await x509.AuthorityKeyIdentifierExtension.create(await certificate.publicKey.export());
    return new Authority(material.certificate, certificate.subject, key, identifier);
  }

  /**
   * Issues a certificate for a peer's key, for clients and servers.
   * @param publicKey of the peer, from {@linkcode readRequest}.
   * @param lifeMs how long it is valid, ms.
   * @returns PEM.
   * @throws TorporError `invalid_argument` when the life is not positive.
   */
  async issue(peer: string, publicKey: x509.PublicKeyType, lifeMs: number): Promise<string> {
    if (lifeMs <= 0) throw new TorporError("invalid_argument", "a certificate must live longer than that");
    const name = dnsNameOf(peer);
    const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.issuer,
      serialNumber: randomSerial(),
      notBefore: new Date(Date.now() - CLOCK_SKEW_MS),
      notAfter: new Date(Date.now() + lifeMs),
      publicKey,
      signingKey: this.key,
      signingAlgorithm: SIGNATURE_ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([serverAuth, clientAuth]),
        new x509.SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
        this.keyIdentifier,
      ],
    });
    return certificate.toString("pem");
  }
}

function randomSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  // A serial number is a positive integer without leading zero bytes.
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toHex();
}
