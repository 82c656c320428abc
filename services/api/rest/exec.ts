import { createRoute } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { exec, execStream } from "../handlers/exec.ts";
import { execInput, execJson, execStreamInput, execStreamJson } from "../inputs/exec.ts";
import { parseInput } from "../inputs/parse.ts";
import { jsonAnswer, jsonBody, sandboxErrors } from "./answers.ts";
import { decodeInput } from "./bytes.ts";
import type { RestApp } from "./environment.ts";
import { eventsAnswer } from "./event_stream.ts";
import { answerEvents, PROCESS_EVENTS } from "./exec_events.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { execView, viewExec } from "./views/process.ts";

const tags = ["exec"];

const execRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/exec",
  tags,
  summary: "Run a command and collect its output",
  description: "At most 64 MiB each of stdout and stderr; beyond that `output_too_large`. Use the stream for more.",
  request: { params: sandboxPath, body: jsonBody(execJson, true) },
  responses: { 200: jsonAnswer(execView, "The command has ended."), ...sandboxErrors },
});

const execStreamRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/exec/stream",
  tags,
  summary: "Run a command and follow its output",
  description: PROCESS_EVENTS,
  request: { params: sandboxPath, body: jsonBody(execStreamJson, true) },
  responses: { 200: eventsAnswer, ...sandboxErrors },
});

/** Routes of commands. */
export function addExecRoutes(app: RestApp, api: Api): void {
  app.openapi(execRoute, async (c) => {
    const { stdin_encoding, ...json } = c.req.valid("json");
    const input = parseInput(execInput, { ...json, stdin: decodeInput(json.stdin, stdin_encoding, "stdin") });
    const response = await exec(api, c.get("caller"), c.req.valid("param").sandbox_id, input);
    return c.json(viewExec(response), 200);
  });

  app.openapi(execStreamRoute, async (c) => {
    const { stdin_encoding, ...json } = c.req.valid("json");
    const input = parseInput(execStreamInput, { ...json, stdin: decodeInput(json.stdin, stdin_encoding, "stdin") });
    const { sandbox_id } = c.req.valid("param");
    return await answerEvents(c.req.raw, (signal) => execStream(api, c.get("caller"), sandbox_id, input, signal));
  });
}
