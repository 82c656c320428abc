import { named, type Queryable } from "./database.ts";

/** The deployment's certificate authority as it is stored. */
export interface StoredAuthority {
  /** PEM. */
  certificate: string;
  /** Encrypted; libs/certificates knows how. */
  sealedKey: Uint8Array;
}

/** The authority, or undefined while there is none. */
export async function getCertificateAuthority(sql: Queryable): Promise<StoredAuthority | undefined> {
  const rows = await named("get_certificate_authority", () =>
    sql<StoredAuthority[]>`
    select certificate, sealed_key from certificate_authority`);
  return rows[0];
}

/** Stores the authority. @returns false when there is one already, which then stays. */
export async function insertCertificateAuthority(sql: Queryable, authority: StoredAuthority): Promise<boolean> {
  const rows = await named("insert_certificate_authority", () =>
    sql`
    insert into certificate_authority (certificate, sealed_key) values (${authority.certificate}, ${authority.sealedKey})
    on conflict do nothing returning singleton`);
  return rows.length > 0;
}
