import { createRoute } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { getUsage } from "../handlers/usage.ts";
import { usageInput } from "../inputs/team.ts";
import { commonErrors, errorView, jsonAnswer } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { usageView, viewUsage } from "./views/team.ts";

const route = createRoute({
  method: "get",
  path: "/v1/usage",
  tags: ["teams"],
  summary: "What a team has used on each day of UTC, up to this moment",
  description: "Without `from` and `to`: the last 30 days. Counted from each state change to the next.",
  request: { query: usageInput },
  responses: {
    200: jsonAnswer(usageView, "Sums by day."),
    ...commonErrors,
    404: jsonAnswer(errorView, "No such team (`team_not_found`), or another one than the caller's."),
  },
});

/** The route of usage. */
export function addUsageRoute(app: RestApp, api: Api): void {
  app.openapi(
    route,
    async (c) => c.json(viewUsage(await getUsage(api, c.get("caller"), c.req.valid("query"))), 200),
  );
}
