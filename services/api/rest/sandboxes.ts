import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { getSandbox, listSandboxes } from "../handlers/sandboxes.ts";
import { SANDBOX_STATES } from "@torpor/db";
import { listSandboxesInput } from "../inputs/sandbox.ts";
import { parseInput } from "../inputs/parse.ts";
import { commonErrors, jsonAnswer, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { integerQuery } from "./query.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { sandboxPageView, sandboxView, viewSandbox } from "./views/sandbox.ts";

const tags = ["sandboxes"];

const listRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes",
  tags,
  summary: "List sandboxes, newest first",
  description:
    "Deleted ones only with `state=deleted`. `metadata.<key>=<value>` keeps sandboxes that have this entry; " +
    "it may be repeated with other keys.",
  request: {
    query: z.looseObject({
      state: z.union([z.string(), z.array(z.string())]).optional()
        .openapi({
          description: "May be repeated.",
          type: "array",
          items: { type: "string", enum: [...SANDBOX_STATES] },
        }),
      limit: integerQuery(1, 1000).optional().openapi({ description: "Default 100." }),
      cursor: z.string().optional().openapi({ description: "`next_cursor` of the page before." }),
    }),
  },
  responses: { 200: jsonAnswer(sandboxPageView, "One page."), ...commonErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}",
  tags,
  summary: "Show a sandbox",
  request: { params: sandboxPath },
  responses: { 200: jsonAnswer(sandboxView, "The sandbox."), ...sandboxErrors },
});

/** Routes that look at sandboxes. */
export function addSandboxRoutes(app: RestApp, api: Api): void {
  app.openapi(listRoute, async (c) => {
    const input = parseInput(
      listSandboxesInput,
      listQuery(new URL(c.req.url).searchParams, c.req.valid("query").limit),
    );
    const page = await listSandboxes(api, c.get("caller"), input);
    return c.json({ sandboxes: page.sandboxes.map(viewSandbox), next_cursor: page.nextCursor || null }, 200);
  });

  app.openapi(getRoute, async (c) => {
    const sandbox = await getSandbox(api, c.get("caller"), c.req.valid("param").sandbox_id);
    return c.json(viewSandbox(sandbox), 200);
  });
}

const METADATA_PREFIX = "metadata.";

/** The query string as input. A parameter that does not exist is refused: a typing error must not list everything. */
function listQuery(query: URLSearchParams, limit: number | undefined): Record<string, unknown> {
  const input: Record<string, unknown> = {};
  const metadata: [string, string][] = [];
  for (const [name, value] of query) {
    if (name === "state") input.state = query.getAll("state");
    else if (name === "limit") input.limit = limit;
    else if (name.startsWith(METADATA_PREFIX)) metadata.push([name.slice(METADATA_PREFIX.length), value]);
    else input[name] = value;
  }
  return { ...input, metadata: Object.fromEntries(metadata) };
}
