import { type Authority, formatHostToken, hashHostSecret, newHostSecret, readRequest } from "@torpor/certificates";
import {
  countHostsNamed,
  type Database,
  getHost,
  type HostTokenRow,
  insertHostToken,
  lockHostToken,
  type Queryable,
  readmitHost,
  useHostToken,
} from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId, requireId, requireTemplateName } from "@torpor/ids";
import type { CreateHostTokenRequest, EnrollHostRequest, RenewHostCertificateRequest } from "@torpor/proto/scheduler";
import { hostPeer } from "@torpor/rpc";
import { log } from "@torpor/telemetry";

const DEFAULT_TOKEN_LIFE_SEC = 3_600;
const MIN_TOKEN_LIFE_SEC = 60;
const MAX_TOKEN_LIFE_SEC = 604_800;

/**
 * Makes a token by which one host joins. The database has only its hash.
 * @throws TorporError `invalid_argument`; `already_exists` when a host has this name.
 */
export async function createHostToken(
  database: Database,
  authority: Authority,
  request: CreateHostTokenRequest,
): Promise<{ token: string; expiresUnixMs: bigint }> {
  const name = requireTemplateName(request.name, "name");
  const lifeSec = request.expiresInSec || DEFAULT_TOKEN_LIFE_SEC;
  if (lifeSec < MIN_TOKEN_LIFE_SEC || lifeSec > MAX_TOKEN_LIFE_SEC) {
    throw new TorporError(
      "invalid_argument",
      `expires_in_sec must be from ${MIN_TOKEN_LIFE_SEC} to ${MAX_TOKEN_LIFE_SEC}`,
      { field: "expires_in_sec" },
    );
  }
  if (await countHostsNamed(database.sql, name) > 0) {
    throw new TorporError("already_exists", `there is a host ${name}`, { field: "name", hint: "remove it first" });
  }
  const secret = newHostSecret();
  const secretHash = await hashHostSecret(secret);
  const { expiresAt } = await insertHostToken(database.sql, {
    id: newId(),
    name,
    secretHash,
    lifeMs: lifeSec * 1000,
  });
  log("info", "host_token_created", { name, expires_at: expiresAt.toISOString() });
  return {
    token: formatHostToken({ secret, authority: authority.certificate }),
    expiresUnixMs: BigInt(expiresAt.getTime()),
  };
}

/**
 * Uses a token: issues a host its first certificate. The same host with the same key may ask again, as its answer may have
 * been lost.
 * @param lifeMs of the certificate.
 * @throws TorporError `permission_denied`, `already_exists`, `invalid_argument`.
 */
export async function enrollHost(
  database: Database,
  authority: Authority,
  request: EnrollHostRequest,
  lifeMs: number,
): Promise<{ certificate: string }> {
  const hostId = requireId(request.hostId, "host_id");
  const { publicKey, keyHash } = await readRequest(request.certificateRequest);
  const secretHash = await hashHostSecret(new Uint8Array(request.secret));
  await database.transaction("enroll_host", async (sql) => {
    const token = await lockHostToken(sql, secretHash);
    if (token && isSameUse(token, hostId, keyHash)) return;
    if (!token || token.expired || token.usedAt !== null) {
      throw new TorporError("permission_denied", "the registration token is unknown, expired or used", {
        hint: "make one with: torpor host add NAME",
      });
    }
    await requireFreeId(sql, hostId);
    await useHostToken(sql, token.id, { hostId, keyHash });
    log("info", "host_enrolled", { host_id: hostId, name: token.name });
  });
  return { certificate: await authority.issue(hostPeer(hostId), publicKey, lifeMs) };
}

function isSameUse(token: HostTokenRow, hostId: string, keyHash: Uint8Array): boolean {
  return token.hostId === hostId && token.keyHash !== null &&
    keyHash.length === token.keyHash.length && keyHash.every((byte, i) => byte === token.keyHash![i]);
}

/** A token is for one new host: it must not make its bearer another one that is here already. */
async function requireFreeId(sql: Queryable, hostId: string): Promise<void> {
  const host = await getHost(sql, hostId);
  if (!host || await readmitHost(sql, hostId)) return;
  throw new TorporError("already_exists", `host ${hostId} (${host.name}) is here already`, {
    field: "host_id",
    hint: "remove it first, if this is to take its place",
  });
}

/**
 * Issues a host its next certificate.
 * @param hostId by the certificate that it has called with.
 * @throws TorporError `permission_denied` when it was removed; `invalid_argument`.
 */
export async function renewHostCertificate(
  database: Database,
  authority: Authority,
  hostId: string,
  request: RenewHostCertificateRequest,
  lifeMs: number,
): Promise<{ certificate: string }> {
  const { publicKey } = await readRequest(request.certificateRequest);
  const host = await getHost(database.sql, hostId);
  // A host that has enrolled and not registered yet has no row.
  if (host && host.removedAt !== null) throw removedError(hostId);
  return { certificate: await authority.issue(hostPeer(hostId), publicKey, lifeMs) };
}

/** What a removed host is told. */
export function removedError(hostId: string): TorporError {
  return new TorporError("permission_denied", `host ${hostId} was removed`, {
    hint: "add it anew: torpor host add NAME",
  });
}
