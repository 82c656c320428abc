import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { getOperation, listOperations } from "../handlers/operations.ts";
import { idText } from "../inputs/text.ts";
import { jsonAnswer, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
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
}
