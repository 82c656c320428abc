import { z } from "@hono/zod-openapi";
import type { ApiKeyRow } from "@torpor/db";

const time = z.iso.datetime().nullable();

export const apiKeyView = z.object({
  key_id: z.string(),
  team_id: z.string(),
  name: z.string(),
  prefix: z.string().openapi({ description: "The first characters of the key." }),
  scopes: z.array(z.string()),
  created_at: z.iso.datetime(),
  last_used_at: time.openapi({ description: "As exact as a minute." }),
  expires_at: time.openapi({ description: "Null: never." }),
  revoked_at: time,
}).openapi("ApiKey");

export const newApiKeyView = apiKeyView.extend({
  key: z.string().openapi({ description: "The secret; it cannot be shown again." }),
}).openapi("NewApiKey");

export const apiKeyListView = z.object({ api_keys: z.array(apiKeyView) }).openapi("ApiKeyList");

/** A key as the REST API shows it. */
export function viewApiKey(row: ApiKeyRow): z.input<typeof apiKeyView> {
  return {
    key_id: row.id,
    team_id: row.teamId,
    name: row.name,
    prefix: row.prefix,
    scopes: row.scopes,
    created_at: row.createdAt.toISOString(),
    last_used_at: row.lastUsedAt?.toISOString() ?? null,
    expires_at: row.expiresAt?.toISOString() ?? null,
    revoked_at: row.revokedAt?.toISOString() ?? null,
  };
}
