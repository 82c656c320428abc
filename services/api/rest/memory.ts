import { createRoute } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { getMemoryStats } from "../handlers/memory.ts";
import { jsonAnswer, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { memoryView, viewMemory } from "./views/memory.ts";

const route = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/memory",
  tags: ["sandboxes"],
  summary: "Where a sandbox's memory pages came from since its resume",
  request: { params: sandboxPath },
  responses: { 200: jsonAnswer(memoryView, "Counts of pages and faults."), ...sandboxErrors },
});

/** The route of memory counts. */
export function addMemoryRoute(app: RestApp, api: Api): void {
  app.openapi(route, async (c) => {
    return c.json(viewMemory(await getMemoryStats(api, c.get("caller"), c.req.valid("param").sandbox_id)), 200);
  });
}
