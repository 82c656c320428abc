import { createRoute, z } from "@hono/zod-openapi";
import { DELIVERY_STATES } from "@torpor/db";
import type { Api } from "../handlers/api.ts";
import {
  createWebhook,
  deleteWebhook,
  getWebhook,
  listWebhookDeliveries,
  listWebhooks,
  retryWebhookDelivery,
  rotateSecret,
  testWebhook,
  updateWebhook,
} from "../handlers/webhooks.ts";
import { parseInput } from "../inputs/parse.ts";
import {
  createWebhookInput,
  eventId,
  listDeliveriesInput,
  rotateWebhookInput,
  updateWebhookInput,
  webhookId,
} from "../inputs/webhook.ts";
import { commonErrors, errorView, jsonAnswer, jsonBody } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { integerQuery } from "./query.ts";
import {
  deliveryPageView,
  deliveryView,
  viewDelivery,
  viewWebhook,
  webhookListView,
  webhookView,
  webhookWithSecretView,
} from "./views/webhook.ts";

const tags = ["webhooks"];

const webhookPath = z.object({ webhook_id: webhookId.openapi({ param: { name: "webhook_id", in: "path" } }) });
const deliveryPath = webhookPath.extend({ event_id: eventId.openapi({ param: { name: "event_id", in: "path" } }) });

const webhookErrors = {
  ...commonErrors,
  404: jsonAnswer(errorView, "No such webhook or delivery (`webhook_not_found`, `delivery_not_found`)."),
};

const disabledErrors = { ...webhookErrors, 409: jsonAnswer(errorView, "It is disabled (`conflict`).") };

const createWebhookRoute = createRoute({
  method: "post",
  path: "/v1/webhooks",
  tags,
  summary: "Have a receiver told of what happens to sandboxes and snapshots",
  description: "Events are signed as the Standard Webhooks specification says, and delivered at least once.",
  request: { body: jsonBody(createWebhookInput, true) },
  responses: { 201: jsonAnswer(webhookWithSecretView, "The webhook, and its secret this once."), ...commonErrors },
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/webhooks",
  tags,
  summary: "List the team's webhooks, newest first",
  responses: { 200: jsonAnswer(webhookListView, "All of them."), ...commonErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/webhooks/{webhook_id}",
  tags,
  summary: "Show a webhook",
  request: { params: webhookPath },
  responses: { 200: jsonAnswer(webhookView, "The webhook."), ...webhookErrors },
});

const updateRoute = createRoute({
  method: "patch",
  path: "/v1/webhooks/{webhook_id}",
  tags,
  summary: "Change a webhook, disable or enable it",
  request: { params: webhookPath, body: jsonBody(updateWebhookInput, true) },
  responses: { 200: jsonAnswer(webhookView, "As it is now."), ...webhookErrors },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/v1/webhooks/{webhook_id}",
  tags,
  summary: "Delete a webhook; what has not been delivered is given up",
  request: { params: webhookPath },
  responses: { 204: { description: "Gone." }, ...webhookErrors },
});

const rotateRoute = createRoute({
  method: "post",
  path: "/v1/webhooks/{webhook_id}/rotate",
  tags,
  summary: "Give a webhook a new secret; the old one signs beside it for a while",
  request: { params: webhookPath, body: jsonBody(rotateWebhookInput, false) },
  responses: { 200: jsonAnswer(webhookWithSecretView, "The webhook, and its new secret this once."), ...webhookErrors },
});

const testRoute = createRoute({
  method: "post",
  path: "/v1/webhooks/{webhook_id}/test",
  tags,
  summary: "Have an event of type webhook.test delivered",
  request: { params: webhookPath },
  responses: { 202: jsonAnswer(deliveryView, "It will be sent at once."), ...disabledErrors },
});

const deliveriesRoute = createRoute({
  method: "get",
  path: "/v1/webhooks/{webhook_id}/deliveries",
  tags,
  summary: "What became of each event, newest first",
  request: {
    params: webhookPath,
    query: z.strictObject({
      state: z.enum(DELIVERY_STATES).optional(),
      event_id: eventId.optional(),
      limit: integerQuery(1, 1000).optional().openapi({ description: "Default 100." }),
      cursor: z.string().optional().openapi({ description: "`next_cursor` of the page before." }),
    }),
  },
  responses: { 200: jsonAnswer(deliveryPageView, "One page."), ...webhookErrors },
});

const retryRoute = createRoute({
  method: "post",
  path: "/v1/webhooks/{webhook_id}/deliveries/{event_id}/retry",
  tags,
  summary: "Have an event sent again at once",
  request: { params: deliveryPath },
  responses: { 202: jsonAnswer(deliveryView, "It will be sent at once."), ...disabledErrors },
});

/** Routes of webhooks. */
export function addWebhookRoutes(app: RestApp, api: Api): void {
  app.openapi(createWebhookRoute, async (c) => {
    const { webhook, secret } = await createWebhook(api, c.get("caller"), c.req.valid("json"));
    return c.json({ ...viewWebhook(webhook), secret }, 201);
  });

  app.openapi(listRoute, async (c) => {
    const webhooks = await listWebhooks(api, c.get("caller"));
    return c.json({ webhooks: webhooks.map(viewWebhook) }, 200);
  });

  app.openapi(getRoute, async (c) => {
    return c.json(viewWebhook(await getWebhook(api, c.get("caller"), c.req.valid("param").webhook_id)), 200);
  });

  app.openapi(updateRoute, async (c) => {
    const { webhook_id } = c.req.valid("param");
    return c.json(viewWebhook(await updateWebhook(api, c.get("caller"), webhook_id, c.req.valid("json"))), 200);
  });

  app.openapi(deleteRoute, async (c) => {
    await deleteWebhook(api, c.get("caller"), c.req.valid("param").webhook_id);
    return c.body(null, 204);
  });

  app.openapi(rotateRoute, async (c) => {
    const input = parseInput(rotateWebhookInput, c.req.valid("json"));
    const { webhook, secret } = await rotateSecret(api, c.get("caller"), c.req.valid("param").webhook_id, input);
    return c.json({ ...viewWebhook(webhook), secret }, 200);
  });

  addDeliveryRoutes(app, api);
}

function addDeliveryRoutes(app: RestApp, api: Api): void {
  app.openapi(testRoute, async (c) => {
    return c.json(viewDelivery(await testWebhook(api, c.get("caller"), c.req.valid("param").webhook_id)), 202);
  });

  app.openapi(deliveriesRoute, async (c) => {
    const { webhook_id } = c.req.valid("param");
    const input = parseInput(listDeliveriesInput, c.req.valid("query"));
    const page = await listWebhookDeliveries(api, c.get("caller"), webhook_id, input);
    return c.json({ deliveries: page.deliveries.map(viewDelivery), next_cursor: page.nextCursor || null }, 200);
  });

  app.openapi(retryRoute, async (c) => {
    const { webhook_id, event_id } = c.req.valid("param");
    return c.json(viewDelivery(await retryWebhookDelivery(api, c.get("caller"), webhook_id, event_id)), 202);
  });
}
