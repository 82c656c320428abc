import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { createHostToken, describeHost, removeHost, setHostPlacement } from "../handlers/host_admin.ts";
import { createHostTokenInput, hostPath } from "../inputs/host.ts";
import { commonErrors, errorView, jsonAnswer, jsonBody } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { hostDetailView, hostTokenView, hostView, removedHostView, viewHost, viewHostDetail } from "./views/host.ts";
import { isoTime } from "./views/time.ts";

const tags = ["operators"];

const hostErrors = {
  ...commonErrors,
  403: jsonAnswer(errorView, "Only for administrators (`permission_denied`); nothing was touched."),
  404: jsonAnswer(errorView, "No such host (`host_not_found`)."),
  409: jsonAnswer(errorView, "It holds sandboxes or snapshots (`conflict`), or the name is taken (`already_exists`)."),
};

const tokenRoute = createRoute({
  method: "post",
  path: "/v1/host-tokens",
  tags,
  summary: "Make a token by which one host joins, once",
  request: { body: jsonBody(createHostTokenInput, true) },
  responses: { 201: jsonAnswer(hostTokenView, "The token; it cannot be shown again."), ...hostErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/hosts/{host}",
  tags,
  summary: "One host, and what it holds",
  request: { params: hostPath },
  responses: { 200: jsonAnswer(hostDetailView, "The host."), ...hostErrors },
});

const VERBS = {
  cordon: { placement: "cordoned", summary: "Place nothing new on a host" },
  uncordon: { placement: "open", summary: "Let a host take sandboxes again; ends a drain" },
  drain: { placement: "draining", summary: "Place nothing new on a host, and pause what runs there" },
} as const;

const verbRoute = (verb: keyof typeof VERBS) =>
  createRoute({
    method: "post",
    path: `/v1/hosts/{host}/${verb}`,
    tags,
    summary: VERBS[verb].summary,
    request: { params: hostPath },
    responses: { 200: jsonAnswer(hostView, "The host as it is now."), ...hostErrors },
  });

const removeRoute = createRoute({
  method: "delete",
  path: "/v1/hosts/{host}",
  tags,
  summary: "Take a host out; with force what it holds is lost until it is added again with its data",
  request: { params: hostPath, query: z.object({ force: z.enum(["true", "false"]).default("false") }) },
  responses: { 200: jsonAnswer(removedHostView, "What was given up."), ...hostErrors },
});

/** Routes that change hosts. */
export function addHostAdminRoutes(app: RestApp, api: Api): void {
  app.openapi(tokenRoute, async (c) => {
    const made = await createHostToken(api, c.get("caller"), c.req.valid("json"));
    return c.json({ token: made.token, expires_at: isoTime(made.expiresUnixMs) }, 201);
  });

  app.openapi(
    getRoute,
    async (c) => c.json(viewHostDetail(await describeHost(api, c.req.valid("param").host)), 200),
  );

  for (const verb of Object.keys(VERBS) as (keyof typeof VERBS)[]) {
    app.openapi(verbRoute(verb), async (c) => {
      const { placement } = VERBS[verb];
      return c.json(viewHost(await setHostPlacement(api, c.get("caller"), c.req.valid("param").host, placement)), 200);
    });
  }

  app.openapi(removeRoute, async (c) => {
    const force = c.req.valid("query").force === "true";
    const removed = await removeHost(api, c.get("caller"), c.req.valid("param").host, force);
    return c.json({ host_id: removed.hostId, sandboxes: removed.sandboxes, snapshots: removed.snapshots }, 200);
  });
}
