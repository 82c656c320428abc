import { createRoute } from "@hono/zod-openapi";
import { TorporError } from "@torpor/errors";
import type { Api } from "../handlers/api.ts";
import { updateNetwork } from "../handlers/network.ts";
import { networkPolicy } from "../inputs/network.ts";
import { parseInput } from "../inputs/parse.ts";
import { jsonAnswer, jsonBody, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { sandboxView, viewSandbox } from "./views/sandbox.ts";

const updateRoute = createRoute({
  method: "put",
  path: "/v1/sandboxes/{sandbox_id}/network",
  tags: ["sandboxes"],
  summary: "Replace what a sandbox may reach",
  description:
    "Of a running sandbox at once: connections that are denied from then on are cut. Of a paused one it takes " +
    "effect with the resume. What the body leaves out is as by default.",
  request: { params: sandboxPath, body: jsonBody(networkPolicy, true) },
  responses: {
    200: jsonAnswer(sandboxView, "It is in effect, or will be when the sandbox runs again."),
    202: jsonAnswer(sandboxView, "Recorded; its host has not confirmed yet, and is told until it does."),
    ...sandboxErrors,
  },
});

/** The route that changes a sandbox's network. */
export function addNetworkRoute(app: RestApp, api: Api): void {
  app.openapi(updateRoute, async (c) => {
    // A body that was forgotten would be the policy that allows everything.
    if (!c.req.header("content-type")) {
      throw new TorporError("unsupported_media_type", "the body must be application/json", { field: "content-type" });
    }
    const input = parseInput(networkPolicy, c.req.valid("json"));
    const { sandbox_id } = c.req.valid("param");
    const { sandbox, confirmed } = await updateNetwork(api, c.get("caller"), sandbox_id, input, "");
    return c.json(viewSandbox(sandbox), confirmed ? 200 : 202);
  });
}
