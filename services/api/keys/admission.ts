import { type Database, takeToken } from "@torpor/db";
import { asTorporError, TorporError } from "@torpor/errors";
import type { AuditLog } from "../audit/audit_log.ts";
import { accessOf, includesScope } from "./access.ts";
import type { Authenticator } from "./authenticate.ts";
import type { Caller } from "./caller.ts";

/** A call that asks to be let in. */
export interface Knock {
  headers: Headers;
  /** As in the tables of access.ts; undefined: no route has this path, which is told to those with a key only. */
  call: string | undefined;
  /** What its path names; "" when that is nothing. */
  target: string;
  /** Where the connection comes from; "" for a unix socket. */
  address: string;
}

/** A call that was let in. */
export interface Admitted {
  caller: Caller;
  /** Writes what became of it into the audit log, when that is kept of such calls. @param code "ok" or an error code. */
  end(code: string): void;
}

/** The one gate of both surfaces: who calls, how often, and whether the key's scopes allow this call. */
export class Admission {
  constructor(
    private readonly database: Database,
    private readonly authenticator: Authenticator,
    private readonly audit: AuditLog,
  ) {}

  /**
   * Lets a call in, before its body is read.
   * @throws TorporError `unauthenticated`; `rate_limited`; `permission_denied` with the scope that is missing, which is
   * kept in the audit log; `unavailable` while too much of that could not be written.
   */
  async admit({ headers, call, target, address }: Knock): Promise<Admitted> {
    const { caller, requestsPerS } = await this.authenticator.authenticate(headers);
    caller.call.target = target;
    if (requestsPerS !== null) await this.#requireToken(caller.teamId, requestsPerS);
    if (call === undefined) return { caller, end: () => {} };
    const { action, scope, changes } = accessOf(call);
    if (changes) this.audit.requireRoom();
    const end = (code: string) => changes ? this.audit.record(caller, { action, code, address }) : undefined;
    if (!includesScope(caller.scopes, scope)) {
      end("permission_denied");
      throw scope === "admin" ? adminOnly() : lacksScope(scope);
    }
    return { caller, end };
  }

  async #requireToken(teamId: string, perS: number): Promise<void> {
    const { allowed, retryAfterSec } = await takeToken(this.database.sql, teamId, perS);
    if (allowed) return;
    throw new TorporError("rate_limited", `team ${teamId} may make ${perS} requests a second`, {
      retryAfterSec: Math.ceil(retryAfterSec),
      details: { limit: perS },
    });
  }
}

function adminOnly(): TorporError {
  return new TorporError("permission_denied", "this is for the administrator of the deployment", {
    hint: "use the deployment's internal token as the key",
  });
}

function lacksScope(scope: string): TorporError {
  return new TorporError("permission_denied", `this API key does not have the scope ${scope}`, {
    hint: `use a key with ${scope}`,
  });
}

/** The code of what a call has thrown. */
export function codeOf(thrown: unknown): string {
  return asTorporError(thrown).code;
}
