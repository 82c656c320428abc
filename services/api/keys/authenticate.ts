import { type Database, DEFAULT_TEAM_ID, findApiKey, type FoundApiKey, touchApiKeys } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import { newId } from "@torpor/ids";
import { bearerToken, tokensEqual } from "@torpor/rpc";
import { log, withSpan } from "@torpor/telemetry";
import { hashApiKey, isApiKey } from "./api_key.ts";
import type { Caller, CallNote } from "./caller.ts";

/** A caller, and what its team's calls are limited to. */
export interface Authenticated {
  caller: Caller;
  /** null: no limit. */
  requestsPerS: number | null;
}

/** Tells who calls by the API key of a request. Dispose it to wait for the notes of use that are being written. */
export class Authenticator implements AsyncDisposable {
  readonly #notes = new Map<string, Promise<void>>();
  readonly #lookups = new Map<string, Promise<FoundApiKey | undefined>>();

  /** @param internalToken TORPOR_INTERNAL_TOKEN: who has it administers the deployment, and acts for the default team. */
  constructor(private readonly database: Database, private readonly internalToken: string) {}

  /**
   * The caller of a request with `Authorization: Bearer e2b_…` or `X-API-Key: e2b_…`, or with the internal token as the
   * bearer.
   * @throws TorporError `unauthenticated`: no key, or one that is unknown, expired or revoked.
   */
  async authenticate(headers: Headers): Promise<Authenticated> {
    return await withSpan("authenticate", {}, async (span) => {
      if (tokensEqual(bearerToken(headers), this.internalToken)) {
        span.setAttributes({ "torpor.team_id": DEFAULT_TEAM_ID, "torpor.admin": true });
        const scopes = ["*", "admin"];
        const caller = { teamId: DEFAULT_TEAM_ID, keyId: "internal", admin: true, scopes, call: newCall() };
        return { caller, requestsPerS: null };
      }
      const row = await this.#findKey(headers);
      span.setAttributes({ "torpor.team_id": row.teamId, "torpor.key_id": row.id });
      this.#noteUse(row);
      const { id: keyId, teamId, scopes, requestsPerS } = row;
      return { caller: { teamId, keyId, admin: false, scopes, call: newCall() }, requestsPerS };
    });
  }

  async #findKey(headers: Headers): Promise<FoundApiKey> {
    const key = bearerToken(headers) || (headers.get("x-api-key") ?? "");
    if (key === "") {
      throw unauthenticated("no API key", "send `Authorization: Bearer e2b_…` or `X-API-Key: e2b_…`");
    }
    if (!isApiKey(key)) throw unauthenticated("this is not an API key", "a key is e2b_ and 40 hexadecimal digits");
    const hash = await hashApiKey(key);
    const row = await this.#find(hash);
    // The index compares hashes byte by byte; timing it tells about the hash, which does not lead back to the key.
    // Comparing again in constant time costs nothing and does not rest on that.
    if (!row || !equalBytes(row.keyHash, hash)) throw unauthenticated("unknown API key");
    if (row.revokedAt !== null) throw unauthenticated("this API key was revoked");
    if (row.expired) throw unauthenticated("this API key has expired");
    return row;
  }

  /** Requests with the same key that arrive while it is being looked up share the answer: it is as fresh for them. */
  #find(hash: Uint8Array): Promise<FoundApiKey | undefined> {
    const name = hash.join();
    let lookup = this.#lookups.get(name);
    if (!lookup) {
      lookup = findApiKey(this.database.sql, hash).finally(() => this.#lookups.delete(name));
      this.#lookups.set(name, lookup);
    }
    return lookup;
  }

  /** Written after the answer, at most once per key and minute. */
  #noteUse(row: FoundApiKey): void {
    if (row.noted || this.#notes.has(row.id)) return;
    const note = touchApiKeys(this.database.sql, [row.id])
      .catch((thrown) => log("warn", "key_use_not_noted", { key_id: row.id }, thrown))
      .finally(() => this.#notes.delete(row.id));
    this.#notes.set(row.id, note);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#notes.values());
  }
}

function newCall(): CallNote {
  return { requestId: newId(), target: "" };
}

function unauthenticated(message: string, hint?: string): TorporError {
  return new TorporError("unauthenticated", message, { hint });
}

/** Compares two byte strings in time that depends on their lengths only. */
function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}
