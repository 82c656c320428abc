import { createRoute } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { listHosts } from "../handlers/hosts.ts";
import { getStatus } from "../handlers/status.ts";
import { commonErrors, jsonAnswer } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { hostListView, viewHost } from "./views/host.ts";
import { statusView, viewStatus } from "./views/status.ts";

const tags = ["operators"];

const hostsRoute = createRoute({
  method: "get",
  path: "/v1/hosts",
  tags,
  summary: "List hosts with their capacity and what is reserved",
  responses: { 200: jsonAnswer(hostListView, "Hosts."), ...commonErrors },
});

const statusRoute = createRoute({
  method: "get",
  path: "/v1/status",
  tags,
  summary: "How the deployment stands",
  responses: {
    200: jsonAnswer(statusView, "Counts by state, hosts, and what the reconciler repaired."),
    ...commonErrors,
  },
});

/** Routes for operators. */
export function addHostRoutes(app: RestApp, api: Api): void {
  app.openapi(hostsRoute, async (c) => {
    const hosts = await listHosts(api);
    return c.json({ hosts: hosts.map(viewHost) }, 200);
  });

  app.openapi(statusRoute, async (c) => c.json(viewStatus(await getStatus(api, c.get("caller"))), 200));
}
