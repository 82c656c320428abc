import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { createApiKey, listApiKeys, revokeApiKey } from "../handlers/api_keys.ts";
import { apiKeyQuery, createApiKeyInput } from "../inputs/api_key.ts";
import { parseInput } from "../inputs/parse.ts";
import { idText } from "../inputs/text.ts";
import { commonErrors, errorView, jsonAnswer, jsonBody } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { apiKeyListView, newApiKeyView, viewApiKey } from "./views/api_key.ts";

const tags = ["teams"];

const keyErrors = {
  ...commonErrors,
  404: jsonAnswer(errorView, "No such key (`api_key_not_found`) or team (`team_not_found`)."),
};

const createKeyRoute = createRoute({
  method: "post",
  path: "/v1/api-keys",
  tags,
  summary: "Make an API key",
  request: { body: jsonBody(createApiKeyInput, true) },
  responses: { 201: jsonAnswer(newApiKeyView, "The key; it cannot be shown again."), ...keyErrors },
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/api-keys",
  tags,
  summary: "List a team's API keys, newest first, revoked ones too",
  request: { query: apiKeyQuery },
  responses: { 200: jsonAnswer(apiKeyListView, "Keys, without their secrets."), ...keyErrors },
});

const revokeRoute = createRoute({
  method: "delete",
  path: "/v1/api-keys/{key_id}",
  tags,
  summary: "Revoke an API key, at once",
  description: "Repeats are fine.",
  request: {
    params: z.object({ key_id: idText.openapi({ param: { name: "key_id", in: "path" } }) }),
    query: apiKeyQuery,
  },
  responses: { 204: { description: "It opens nothing any more." }, ...keyErrors },
});

/** Routes of API keys. */
export function addApiKeyRoutes(app: RestApp, api: Api): void {
  app.openapi(createKeyRoute, async (c) => {
    const input = parseInput(createApiKeyInput, c.req.valid("json"));
    const { row, key } = await createApiKey(api, c.get("caller"), input);
    return c.json({ ...viewApiKey(row), key }, 201);
  });

  app.openapi(listRoute, async (c) => {
    const keys = await listApiKeys(api, c.get("caller"), c.req.valid("query").team_id);
    return c.json({ api_keys: keys.map(viewApiKey) }, 200);
  });

  app.openapi(revokeRoute, async (c) => {
    await revokeApiKey(api, c.get("caller"), c.req.valid("param").key_id, c.req.valid("query").team_id);
    return c.body(null, 204);
  });
}
