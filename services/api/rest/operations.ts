import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { getOperation, listOperations, watchOperation } from "../handlers/operations.ts";
import { idText } from "../inputs/text.ts";
import { jsonAnswer, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { answerEventStream, eventsAnswer } from "./event_stream.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { operationListView, operationView, viewOperation } from "./views/operation.ts";

const tags = ["operations"];

const listRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/operations",
  tags,
  summary: "List a sandbox's lifecycle operations, newest first",
  request: { params: sandboxPath },
  responses: { 200: jsonAnswer(operationListView, "At most 100."), ...sandboxErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/operations/{operation_id}",
  tags,
  summary: "Show a lifecycle operation",
  request: { params: z.object({ operation_id: idText.openapi({ param: { name: "operation_id", in: "path" } }) }) },
  responses: { 200: jsonAnswer(operationView, "The operation."), ...sandboxErrors },
});

const eventsRoute = createRoute({
  method: "get",
  path: "/v1/operations/{operation_id}/events",
  tags,
  summary: "Follow a lifecycle operation to its end",
  description:
    "Server-sent events `operation` with the operation as JSON data: as it is now, and again whenever its step or " +
    "state has changed. The stream ends when the operation has ended. One that breaks off before can be asked for again.",
  request: { params: getRoute.request.params },
  responses: { 200: eventsAnswer, ...sandboxErrors },
});

/** Routes of the operations journal. */
export function addOperationRoutes(app: RestApp, api: Api): void {
  app.openapi(listRoute, async (c) => {
    const operations = await listOperations(api, c.get("caller"), c.req.valid("param").sandbox_id);
    return c.json({ operations: operations.map(viewOperation) }, 200);
  });

  app.openapi(getRoute, async (c) => {
    const operation = await getOperation(api, c.get("caller"), c.req.valid("param").operation_id);
    return c.json(viewOperation(operation), 200);
  });

  app.openapi(eventsRoute, async (c) => {
    const { operation_id } = c.req.valid("param");
    const open = (signal: AbortSignal) => watchOperation(api, c.get("caller"), operation_id, signal);
    return await answerEventStream(
      c.req.raw,
      open,
      (operation) => ({ event: "operation", data: JSON.stringify(viewOperation(operation)) }),
    );
  });
}
