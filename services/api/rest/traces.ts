import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { getTrace, listTraces } from "../handlers/traces.ts";
import { idText } from "../inputs/text.ts";
import { traceId } from "../inputs/trace.ts";
import { jsonAnswer, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { integerQuery } from "./query.ts";
import { traceListView, traceView, viewSpan, viewTraceSummary } from "./views/trace.ts";

const tags = ["traces"];

const listRoute = createRoute({
  method: "get",
  path: "/v1/traces",
  tags,
  summary: "List traces, newest first",
  request: {
    query: z.object({
      sandbox_id: idText.optional().openapi({ description: "Only traces about this sandbox." }),
      limit: integerQuery(1, 1000).optional().openapi({ description: "Default 100." }),
    }),
  },
  responses: { 200: jsonAnswer(traceListView, "Traces."), ...sandboxErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/traces/{trace_id}",
  tags,
  summary: "Show all spans of a trace that have arrived",
  request: { params: z.object({ trace_id: traceId.openapi({ param: { name: "trace_id", in: "path" } }) }) },
  responses: { 200: jsonAnswer(traceView, "The trace, spans by start."), ...sandboxErrors },
});

/** Routes of traces. */
export function addTraceRoutes(app: RestApp, api: Api): void {
  app.openapi(listRoute, async (c) => {
    const { sandbox_id, limit } = c.req.valid("query");
    const traces = await listTraces(api, c.get("caller"), { sandboxId: sandbox_id, limit: limit ?? 100 });
    return c.json({ traces: traces.map(viewTraceSummary) }, 200);
  });

  app.openapi(getRoute, async (c) => {
    const { trace_id } = c.req.valid("param");
    return c.json({ trace_id, spans: (await getTrace(api, c.get("caller"), trace_id)).map(viewSpan) }, 200);
  });
}
