import type { Context } from "hono";
import { createRoute, z } from "@hono/zod-openapi";
import { TorporError } from "@torpor/errors";
import type { Api } from "../handlers/api.ts";
import { runningSandbox } from "../handlers/running_sandbox.ts";
import { sandboxErrors } from "./answers.ts";
import type { RestApp, RestEnvironment } from "./environment.ts";
import { idText } from "../inputs/text.ts";

const route = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/ports/{port}",
  tags: ["sandboxes"],
  summary: "A TCP connection to a port of a sandbox",
  description:
    "The bodies of request and answer flow at the same time: the request's goes to the port as it is, the answer's is " +
    "frames of a 32-bit big-endian length and as many bytes, where length 0 ends the direction. `torpor port` makes a " +
    "local port of it; for HTTP send requests to `<port>-<sandbox_id>.<domain>` instead.",
  request: { params: z.object({ sandbox_id: idText, port: z.string().regex(/^[1-9][0-9]{0,4}$/) }) },
  responses: { 200: { description: "Connected." }, ...sandboxErrors },
});

/** The route that `torpor port` uses. */
export function addPortRoute(app: RestApp, api: Api): void {
  app.openapi(route, async (c) => {
    const { sandbox_id, port } = c.req.valid("param");
    if (Number(port) > 65_535) throw new TorporError("invalid_argument", "port must be 1 to 65535", { field: "port" });
    return await connect(api, c, sandbox_id, port) as never;
  });
}

async function connect(api: Api, c: Context<RestEnvironment>, sandboxId: string, port: string): Promise<Response> {
  const { host } = await runningSandbox(api, c.get("caller"), sandboxId);
  // The host agent speaks the same: what it answers, refusals too, is passed on.
  const answer = await host.http.fetch(`${host.http.baseUrl}/sandboxes/${sandboxId}/ports/${port}`, {
    method: "POST",
    headers: { authorization: `Bearer ${api.hosts.token}`, "content-type": "application/octet-stream" },
    body: c.req.raw.body ?? new Blob([]).stream(),
    signal: AbortSignal.any([c.req.raw.signal, api.stopping]),
  });
  const type = answer.headers.get("content-type") ?? "application/octet-stream";
  return new Response(answer.body, { status: answer.status, headers: { "content-type": type } });
}
