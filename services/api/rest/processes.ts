import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { listProcesses, sendProcessInput, signalProcess } from "../handlers/processes.ts";
import { processInput, processInputJson, signalInput, signalJson } from "../inputs/exec.ts";
import { parseInput } from "../inputs/parse.ts";
import { jsonAnswer, jsonBody, sandboxErrors } from "./answers.ts";
import { decodeInput } from "./bytes.ts";
import type { RestApp } from "./environment.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { processListView, viewProcess } from "./views/process.ts";

const tags = ["exec"];

const processPath = sandboxPath.extend({
  pid: z.string().regex(/^[1-9][0-9]{0,6}$/, "must be a process id").transform(Number)
    .openapi({ param: { name: "pid", in: "path" }, type: "integer" }),
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/processes",
  tags,
  summary: "List the processes that exec started",
  request: { params: sandboxPath },
  responses: { 200: jsonAnswer(processListView, "Running and recently ended processes."), ...sandboxErrors },
});

const stdinRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/processes/{pid}/stdin",
  tags,
  summary: "Write to a process's standard input",
  request: { params: processPath, body: jsonBody(processInputJson, true) },
  responses: { 204: { description: "Written." }, ...sandboxErrors },
});

const signalRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/processes/{pid}/signal",
  tags,
  summary: "Signal a process and its children",
  request: { params: processPath, body: jsonBody(signalJson, true) },
  responses: { 204: { description: "Sent." }, ...sandboxErrors },
});

/** Routes of processes. */
export function addProcessRoutes(app: RestApp, api: Api): void {
  app.openapi(listRoute, async (c) => {
    const processes = await listProcesses(api, c.get("caller"), c.req.valid("param").sandbox_id);
    return c.json({ processes: processes.map(viewProcess) }, 200);
  });

  app.openapi(stdinRoute, async (c) => {
    const { sandbox_id, pid } = c.req.valid("param");
    const { data, data_encoding, eof } = c.req.valid("json");
    const input = parseInput(processInput, { pid, data: decodeInput(data, data_encoding, "data"), eof });
    await sendProcessInput(api, c.get("caller"), sandbox_id, input);
    return c.body(null, 204);
  });

  app.openapi(signalRoute, async (c) => {
    const { sandbox_id, pid } = c.req.valid("param");
    const input = parseInput(signalInput, { pid, signal: c.req.valid("json").signal });
    await signalProcess(api, c.get("caller"), sandbox_id, input);
    return c.body(null, 204);
  });
}
