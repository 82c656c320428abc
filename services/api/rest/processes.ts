import { createRoute, z } from "@hono/zod-openapi";
import { TorporError } from "@torpor/errors";
import type { Api } from "../handlers/api.ts";
import { attachProcess } from "../handlers/exec.ts";
import { listProcesses, sendProcessInput, signalProcess } from "../handlers/processes.ts";
import { attachInput, holdBack, processInput, processInputJson, signalInput, signalJson } from "../inputs/exec.ts";
import { parseInput } from "../inputs/parse.ts";
import { jsonAnswer, jsonBody, sandboxErrors } from "./answers.ts";
import { decodeInput } from "./bytes.ts";
import type { RestApp } from "./environment.ts";
import { eventsAnswer } from "./event_stream.ts";
import { answerEvents, PROCESS_EVENTS } from "./exec_events.ts";
import { booleanQuery } from "./query.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { processListView, viewProcess } from "./views/process.ts";

const tags = ["exec"];

const processPath = sandboxPath.extend({
  pid: z.string().regex(/^[1-9][0-9]{0,6}$/, "must be a process id").transform(Number)
    .openapi({ param: { name: "pid", in: "path" }, type: "integer" }),
});

const attachQuery = z.strictObject({
  after: z.string().regex(/^[0-9]{1,20}$/, "must be an integer").default("0").transform(BigInt).openapi({
    type: "integer",
    default: 0,
    description: "`sequence` of the last event that was received. 0: from the oldest that is kept.",
  }),
  started_at: z.iso.datetime().optional().openapi({
    description: "As `started` or the list of processes told it: another process of the same number is not found.",
  }),
  hold_back: booleanQuery.default(false).openapi({ ...holdBack, type: "boolean", default: false }),
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/processes",
  tags,
  summary: "List the processes that exec started",
  request: { params: sandboxPath },
  responses: { 200: jsonAnswer(processListView, "Running and recently ended processes."), ...sandboxErrors },
});

const eventsRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/processes/{pid}/events",
  tags,
  summary: "Follow a process's output, from any event on",
  description:
    `${PROCESS_EVENTS} A \`Last-Event-ID\` header, which browsers send when they connect again, comes before ` +
    "`after`. `conflict` when the output ends before that event: the sandbox went back to an older snapshot.",
  request: { params: processPath, query: attachQuery },
  responses: { 200: eventsAnswer, ...sandboxErrors },
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

  app.openapi(eventsRoute, async (c) => {
    const { sandbox_id, pid } = c.req.valid("param");
    const { after, started_at, hold_back } = c.req.valid("query");
    const input = parseInput(attachInput, {
      pid,
      after_sequence: lastEventId(c.req.header("last-event-id")) ?? after,
      started_at_unix_ms: started_at === undefined ? 0n : BigInt(Date.parse(started_at)),
      hold_back,
    });
    return await answerEvents(c.req.raw, (signal) => attachProcess(api, c.get("caller"), sandbox_id, input, signal));
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

/** The number in a Last-Event-ID header. @throws TorporError `invalid_argument`. */
function lastEventId(header: string | undefined): bigint | undefined {
  if (header === undefined) return undefined;
  if (/^[0-9]{1,20}$/.test(header)) return BigInt(header);
  throw new TorporError("invalid_argument", "last-event-id must be the id of an event", { field: "last-event-id" });
}
