import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { X509Certificate } from "node:crypto";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { hostPeer } from "@torpor/rpc";
import { openTestDatabase } from "@torpor/testing/postgres";
import {
  Authority,
  ControlCredentials,
  createAuthority,
  createKey,
  formatHostToken,
  newHostSecret,
  openStoredAuthority,
  parseHostToken,
  readRequest,
  renewalDelayMs,
  requestFor,
  validityOf,
} from "./mod.ts";

Deno.test("an issued certificate carries the peer's name, the requested key and the life", async () => {
  const authority = await Authority.open(await createAuthority());
  const id = newId();
  const { publicKey } = await readRequest(await requestFor(await createKey()));
  const pem = await authority.issue(hostPeer(id), publicKey, 60_000);
  const certificate = new X509Certificate(pem);
  assertEquals(certificate.subjectAltName, `DNS:${id}.host.torpor.internal`);
  assertEquals(certificate.ca, false);
  assertEquals(certificate.verify(new X509Certificate(authority.certificate).publicKey), true);
  const left = validityOf(pem).notAfter.getTime() - Date.now();
  assertEquals(left > 50_000 && left <= 60_000, true);
  assertEquals(Math.round(renewalDelayMs(pem) / 1000), 20);
});

Deno.test("a request that is not signed with its own key is refused", async () => {
  const [one, other] = [await requestFor(await createKey()), await requestFor(await createKey())];
  const bytes = (pem: string) => Uint8Array.fromBase64(pem.replace(/-----[^-]+-----|\s/g, ""));
  const forged = bytes(one);
  // The public key is the last 65 bytes before the attributes; both requests have one layout.
  const at = forged.findIndex((_, i) => forged[i] === 0x03 && forged[i + 1] === 0x42 && forged[i + 2] === 0x00);
  forged.set(bytes(other).subarray(at + 3, at + 68), at + 3);
  const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${forged.toBase64()}\n-----END CERTIFICATE REQUEST-----`;
  for (const text of [pem, "", "nonsense"]) {
    const error = await assertRejects(() => readRequest(text), TorporError);
    assertEquals([error.code, error.field], ["invalid_argument", "certificate_request"]);
  }
});

Deno.test("a host's token holds the secret and the authority; anything else is refused", async () => {
  const { certificate } = await createAuthority();
  const secret = newHostSecret();
  const parsed = parseHostToken(formatHostToken({ secret, authority: certificate }) + "\n");
  assertEquals(parsed.secret, secret);
  const fingerprint = (pem: string) => new X509Certificate(pem).fingerprint256;
  assertEquals(fingerprint(parsed.authority), fingerprint(certificate));
  for (const text of ["", "torpor-host.a.b", "other.a.b", "torpor-host"]) {
    assertEquals(assertThrows(() => parseHostToken(text), TorporError).code, "config_invalid");
  }
});

Deno.test("one authority for all services of a deployment; its key is of no use without the internal token", async () => {
  await using test = await openTestDatabase();
  const opened = await Promise.all(Array.from({ length: 4 }, () => openStoredAuthority(test.database, "t".repeat(32))));
  assertEquals(new Set(opened.map(({ certificate }) => certificate)).size, 1);
  const other = await assertRejects(() => openStoredAuthority(test.database, "u".repeat(32)), TorporError);
  assertEquals([other.code, other.field], ["config_invalid", "TORPOR_INTERNAL_TOKEN"]);
});

Deno.test("a service of the control plane renews its certificate before it ends", async () => {
  const authority = await Authority.open(await createAuthority());
  using credentials = await ControlCredentials.open(authority, "api", 3_000);
  const first = credentials.current;
  const next = Promise.withResolvers<typeof first>();
  using _listening = credentials.onReplace(next.resolve);
  const second = await next.promise;
  assertEquals(second.certificate === first.certificate, false);
  assertEquals(validityOf(first.certificate).notAfter.getTime() > Date.now(), true);
});
