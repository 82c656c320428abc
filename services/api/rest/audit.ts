import { createRoute } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { listAuditEntries } from "../handlers/audit.ts";
import { parseInput } from "../inputs/parse.ts";
import { auditInput } from "../inputs/team.ts";
import { commonErrors, errorView, jsonAnswer } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { integerQuery } from "./query.ts";
import { auditPageView, viewAuditEntry } from "./views/audit.ts";

const route = createRoute({
  method: "get",
  path: "/v1/audit",
  tags: ["teams"],
  summary: "Who changed what, newest first",
  description: "Calls that changed something, and those that were refused. An administrator sees all teams'.",
  request: {
    query: auditInput.extend({ limit: integerQuery(1, 1000).optional(), cursor: auditInput.shape.cursor.optional() }),
  },
  responses: {
    200: jsonAnswer(auditPageView, "One page."),
    ...commonErrors,
    404: jsonAnswer(errorView, "No such team (`team_not_found`), or another one than the caller's."),
  },
});

/** The route of the audit log. */
export function addAuditRoute(app: RestApp, api: Api): void {
  app.openapi(route, async (c) => {
    const page = await listAuditEntries(api, c.get("caller"), parseInput(auditInput, c.req.valid("query")));
    return c.json({ entries: page.entries.map(viewAuditEntry), next_cursor: page.nextCursor || null }, 200);
  });
}
