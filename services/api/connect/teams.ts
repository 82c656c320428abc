import type { ServiceImpl } from "@connectrpc/connect";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ApiKeyRow, AuditRow } from "@torpor/db";
import type { ApiKeyService, AuditService, TeamLimits, TeamService } from "@torpor/proto/team";
import type { Api } from "../handlers/api.ts";
import { createApiKey, listApiKeys, revokeApiKey } from "../handlers/api_keys.ts";
import { listAuditEntries } from "../handlers/audit.ts";
import { createTeam, deleteTeam, getTeam, listTeams, type Team, updateTeam } from "../handlers/teams.ts";
import { getUsage } from "../handlers/usage.ts";
import { apiKeyQuery, createApiKeyInput } from "../inputs/api_key.ts";
import { parseInput } from "../inputs/parse.ts";
import { auditInput, createTeamInput, teamId, updateTeamInput, usageInput } from "../inputs/team.ts";
import { requireId } from "@torpor/ids";
import { z } from "zod";
import { callerOf } from "./gate.ts";

const teamReference = z.object({ team_id: teamId });

/** The methods about teams and their usage. */
export function teamMethods(api: Api): ServiceImpl<typeof TeamService> {
  return {
    async createTeam({ name, limits }, context) {
      const input = parseInput(createTeamInput, { name, limits: limitsInput(limits) });
      return { team: teamMessage(await createTeam(api, callerOf(context), input)) };
    },
    async getTeam(request, context) {
      return { team: teamMessage(await getTeam(api, callerOf(context), teamOf(request))) };
    },
    async listTeams(_request, context) {
      return { teams: (await listTeams(api, callerOf(context))).map(teamMessage) };
    },
    async updateTeam(request, context) {
      const input = parseInput(updateTeamInput, { name: request.name, limits: limitsInput(request.limits) });
      return { team: teamMessage(await updateTeam(api, callerOf(context), teamOf(request), input)) };
    },
    async deleteTeam(request, context) {
      await deleteTeam(api, callerOf(context), teamOf(request));
      return {};
    },
    async getUsage({ teamId, from, to }, context) {
      const given = { team_id: teamId || undefined, from: from || undefined, to: to || undefined };
      return await getUsage(api, callerOf(context), parseInput(usageInput, given));
    },
  };
}

/** The methods about API keys. */
export function apiKeyMethods(api: Api): ServiceImpl<typeof ApiKeyService> {
  return {
    async createApiKey(request, context) {
      const input = parseInput(createApiKeyInput, {
        name: request.name,
        scopes: request.scopes.length > 0 ? request.scopes : undefined,
        expires_in_sec: Number(request.expiresInSec),
        team_id: request.teamId || undefined,
      });
      const { row, key } = await createApiKey(api, callerOf(context), input);
      return { apiKey: apiKeyMessage(row), key };
    },
    async listApiKeys(request, context) {
      const { team_id } = parseInput(apiKeyQuery, { team_id: request.teamId || undefined });
      return { apiKeys: (await listApiKeys(api, callerOf(context), team_id)).map(apiKeyMessage) };
    },
    async revokeApiKey(request, context) {
      const { team_id } = parseInput(apiKeyQuery, { team_id: request.teamId || undefined });
      await revokeApiKey(api, callerOf(context), requireId(request.keyId, "key_id"), team_id);
      return {};
    },
  };
}

/** The methods about the audit log. */
export function auditMethods(api: Api): ServiceImpl<typeof AuditService> {
  return {
    async listAuditEntries(request, context) {
      const input = parseInput(auditInput, {
        team_id: request.teamId || undefined,
        target: request.target || undefined,
        limit: request.pageSize || undefined,
        cursor: request.cursor,
      });
      const { entries, nextCursor } = await listAuditEntries(api, callerOf(context), input);
      return { entries: entries.map(auditMessage), nextCursor };
    },
  };
}

function teamOf({ teamId }: { teamId: string }): string {
  return parseInput(teamReference, { team_id: teamId }).team_id;
}

/** -1 stands for null, which a message cannot say. */
function limitsInput(limits: TeamLimits | undefined): Record<string, number | null> {
  const named = {
    requests_per_s: limits?.requestsPerS,
    max_sandboxes: limits?.maxSandboxes,
    max_running_sandboxes: limits?.maxRunningSandboxes,
    max_vcpus: limits?.maxVcpus,
    max_memory_mb: limits?.maxMemoryMb,
    max_disk_mb: limits?.maxDiskMb,
    max_snapshots: limits?.maxSnapshots,
    max_stored_bytes: limits?.maxStoredBytes,
  };
  const given = Object.entries(named).filter(([, limit]) => limit !== undefined);
  return Object.fromEntries(given.map(([name, limit]) => [name, limit === -1n ? null : Number(limit)]));
}

function teamMessage({ id, name, limits, use, createdAt }: Team) {
  const big = <T extends object>(values: T) =>
    Object.fromEntries(
      Object.entries(values).map(([name, value]) => [name, value === null ? undefined : BigInt(value)]),
    ) as { [Name in keyof T]: Extract<T[Name], null> extends never ? bigint : bigint | undefined };
  return { teamId: id, name, limits: big(limits), use: big(use), createdAt: timestampFromDate(createdAt) };
}

function apiKeyMessage(row: ApiKeyRow) {
  const time = (date: Date | null) => date === null ? undefined : timestampFromDate(date);
  return {
    keyId: row.id,
    teamId: row.teamId,
    name: row.name,
    prefix: row.prefix,
    scopes: row.scopes,
    createdAt: timestampFromDate(row.createdAt),
    lastUsedAt: time(row.lastUsedAt),
    expiresAt: time(row.expiresAt),
    revokedAt: time(row.revokedAt),
  };
}

function auditMessage({ id: requestId, createdAt, ...rest }: AuditRow) {
  return { ...rest, requestId, createdAt: timestampFromDate(createdAt) };
}
