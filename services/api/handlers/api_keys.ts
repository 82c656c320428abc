import { type ApiKeyRow, getTeam, insertApiKey, listApiKeys as queryKeys, revokeApiKey as revoke } from "@torpor/db";
import { TorporError } from "@torpor/errors";
import type { z } from "zod";
import type { createApiKeyInput } from "../inputs/api_key.ts";
import { includesScope, SCOPES } from "../keys/access.ts";
import { newApiKey } from "../keys/api_key.ts";
import type { Caller } from "../keys/caller.ts";
import { chosenTeam } from "../keys/chosen_team.ts";
import type { Api } from "./api.ts";

/**
 * Makes a key of the caller's team, or for an administrator of another.
 * @returns the secret, too: it is not stored and cannot be shown again.
 * @throws TorporError `permission_denied` for a scope that the caller does not have; `team_not_found`.
 */
export async function createApiKey(
  api: Api,
  caller: Caller,
  input: z.output<typeof createApiKeyInput>,
): Promise<{ row: ApiKeyRow; key: string }> {
  const teamId = await liveTeam(api, chosenTeam(caller, input.team_id));
  const scopes = input.scopes ?? caller.scopes.filter((scope) => (SCOPES as readonly string[]).includes(scope));
  const beyond = scopes.find((scope) => !includesScope(caller.scopes, scope));
  if (beyond !== undefined) {
    throw new TorporError("permission_denied", `this API key cannot give the scope ${beyond}: it does not have it`, {
      field: "scopes",
    });
  }
  const { key, hash: keyHash, prefix } = await newApiKey();
  const expiresInSec = input.expires_in_sec === 0 ? undefined : input.expires_in_sec;
  const row = await insertApiKey(api.database.sql, { teamId, name: input.name, keyHash, prefix, scopes, expiresInSec });
  caller.call.target = row.id;
  return { row, key };
}

/** A team's keys, newest first, revoked ones too. @throws TorporError `team_not_found`. */
export async function listApiKeys(api: Api, caller: Caller, teamId: string | undefined): Promise<ApiKeyRow[]> {
  return await queryKeys(api.database.sql, await liveTeam(api, chosenTeam(caller, teamId)));
}

/** Ends a key's life, at once; repeats are fine. @throws TorporError `api_key_not_found`, `team_not_found`. */
export async function revokeApiKey(api: Api, caller: Caller, id: string, teamId: string | undefined): Promise<void> {
  if (await revoke(api.database.sql, chosenTeam(caller, teamId), id)) return;
  throw new TorporError("api_key_not_found", `no API key ${id}`);
}

async function liveTeam(api: Api, id: string): Promise<string> {
  const team = await getTeam(api.database.sql, id);
  if (team && team.deletedAt === null) return id;
  throw new TorporError("team_not_found", `no team ${id}`);
}
