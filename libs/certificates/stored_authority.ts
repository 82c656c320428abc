import { type Database, getCertificateAuthority, insertCertificateAuthority } from "@torpor/db";
import { Authority, createAuthority } from "./authority.ts";
import { openKey, sealKey } from "./sealed_key.ts";

/**
 * The deployment's authority, from the database; the first who asks makes it.
 * @param token TORPOR_INTERNAL_TOKEN, which the key is sealed with.
 * @throws TorporError `config_invalid` when it was sealed with another token.
 */
export async function openStoredAuthority(database: Database, token: string): Promise<Authority> {
  let stored = await getCertificateAuthority(database.sql);
  if (!stored) {
    const made = await createAuthority();
    const sealed = { certificate: made.certificate, sealedKey: await sealKey(made.key, token) };
    // Another service may have been faster: theirs counts.
    await insertCertificateAuthority(database.sql, sealed);
    stored = (await getCertificateAuthority(database.sql))!;
  }
  const key = await openKey(new Uint8Array(stored.sealedKey), token);
  return await Authority.open({ certificate: stored.certificate, key });
}
