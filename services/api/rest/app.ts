import { OpenAPIHono } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import { TorporError } from "@torpor/errors";
import type { Api } from "../handlers/api.ts";
import { MAX_STDIN_BYTES } from "../inputs/exec.ts";
import { idempotencyHeader } from "../inputs/sandbox.ts";
import type { Admission } from "../keys/admission.ts";
import { addMetricsRoutes } from "../metrics/routes.ts";
import { TRACES_RECEIVER_PATH } from "../otlp/paths.ts";
import { type ReceiverOptions, receiveTraces } from "../traces/receiver.ts";
import { admit } from "./admit.ts";
import { answerOnce } from "./answer_once.ts";
import { addApiKeyRoutes } from "./api_keys.ts";
import { addAuditRoute } from "./audit.ts";
import { addDirectoryRoutes } from "./directories.ts";
import { addDocs } from "./docs.ts";
import type { RestApp, RestEnvironment } from "./environment.ts";
import { answerError, refuseInvalid } from "./errors.ts";
import { addExecRoutes } from "./exec.ts";
import { addFileRoutes } from "./files.ts";
import { addHostAdminRoutes } from "./host_admin.ts";
import { addHostRoutes } from "./hosts.ts";
import { addLifecycleRoutes } from "./lifecycle.ts";
import { addMemoryRoute } from "./memory.ts";
import { addNetworkRoute } from "./network.ts";
import { addOperationRoutes } from "./operations.ts";
import { PathTable } from "./path_table.ts";
import { addPortRoute } from "./ports.ts";
import { addProcessRoutes } from "./processes.ts";
import { addSandboxRoutes } from "./sandboxes.ts";
import { addSnapshotRoutes } from "./snapshots.ts";
import { observe } from "./observe.ts";
import { addTeamRoutes } from "./teams.ts";
import { addTraceRoutes } from "./traces.ts";
import { addUsageRoute } from "./usage.ts";
import { addWebhookRoutes } from "./webhooks.ts";

const MAX_JSON_BYTES = 1024 * 1024;

/** Base64 adds a third, and the other members of the body have their own limits. */
const MAX_STDIN_JSON_BYTES = Math.ceil(MAX_STDIN_BYTES * 4 / 3) + MAX_JSON_BYTES;

/** A stream is followed again by its sequence; the others answer with a secret. */
const KEEPS_NO_ANSWER = [
  "/v1/sandboxes/{sandbox_id}/exec/stream",
  "/v1/api-keys",
  "/v1/host-tokens",
  "/v1/webhooks",
  "/v1/webhooks/{webhook_id}/rotate",
];

/** What the REST application is made of. */
export interface RestOptions {
  api: Api;
  admission: Admission;
  receiver: ReceiverOptions;
}

/** The REST surface: everything that is no ConnectRPC route. */
export function createRestApp(options: RestOptions): RestApp {
  const app = new OpenAPIHono<RestEnvironment>({ defaultHook: refuseInvalid });
  const paths = new PathTable();
  app.onError((thrown) => answerError(thrown));
  app.notFound((c) => answerError(unknownPath(paths, c.req.method, c.req.path)));
  app.use(observe(paths));
  app.use("/v1/*", admit(options.admission, paths));
  addBodyRules(app);
  const exempt = new Set<string>(KEEPS_NO_ANSWER);
  app.use("/v1/*", answerOnce(options.api.database, paths, exempt));
  addRoutes(app, options.api);
  app.post(TRACES_RECEIVER_PATH, async (c) => await receiveTraces(c.req.raw, options.receiver));
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== "route") continue;
    const { method, path, request } = definition.route;
    paths.add(method, path);
    if (request?.headers === idempotencyHeader) exempt.add(path);
  }
  paths.add("post", TRACES_RECEIVER_PATH);
  addMetricsRoutes(app, paths, options.receiver.internalToken);
  addDocs(app, paths);
  return app;
}

function addRoutes(app: RestApp, api: Api): void {
  addLifecycleRoutes(app, api);
  addSandboxRoutes(app, api);
  addNetworkRoute(app, api);
  addPortRoute(app, api);
  addSnapshotRoutes(app, api);
  addWebhookRoutes(app, api);
  addExecRoutes(app, api);
  addProcessRoutes(app, api);
  addFileRoutes(app, api);
  addDirectoryRoutes(app, api);
  addMemoryRoute(app, api);
  addOperationRoutes(app, api);
  addTraceRoutes(app, api);
  addHostRoutes(app, api);
  addHostAdminRoutes(app, api);
  addTeamRoutes(app, api);
  addApiKeyRoutes(app, api);
  addUsageRoute(app, api);
  addAuditRoute(app, api);
}

/**
 * Every body but an uploaded file's is JSON and read whole, so it is capped before it is read. A body of another type is
 * refused even where the body may be left out: it would otherwise be ignored, as if nothing had been asked for.
 */
function addBodyRules(app: RestApp): void {
  const refuse = (maxSize: number) =>
    bodyLimit({
      maxSize,
      onError: () => {
        throw new TorporError("payload_too_large", `the body must have at most ${maxSize} bytes`, { field: "body" });
      },
    });
  const json = refuse(MAX_JSON_BYTES);
  const stdin = refuse(MAX_STDIN_JSON_BYTES);
  app.use("/v1/*", async (c, next) => {
    if (c.req.method === "PUT" && c.req.path.endsWith("/files")) return await next();
    // A connection: its body has no end.
    if (c.req.method === "POST" && /\/ports\/[0-9]+$/.test(c.req.path)) return await next();
    const type = c.req.header("content-type") ?? "";
    if (
      ["POST", "PUT", "PATCH"].includes(c.req.method) && hasBody(c.req.raw) && !/^application\/json\s*(;|$)/i.test(type)
    ) {
      throw new TorporError("unsupported_media_type", "the body must be application/json", { field: "content-type" });
    }
    const takesStdin = /\/(exec|exec\/stream|stdin)$/.test(c.req.path);
    return await (takesStdin ? stdin : json)(c, async () => {
      if (type !== "" && !(Number(c.req.header("content-length")) > 0)) c.req.raw = await withEmptyObject(c.req.raw);
      await next();
    });
  });
}

/** A request that says that its body is JSON and has none, as many clients send it, asks for `{}`. */
async function withEmptyObject(request: Request): Promise<Request> {
  const { url, method, headers, signal } = request;
  if (!["POST", "PATCH"].includes(method)) return request;
  const text = await request.text();
  return new Request(url, { method, headers, signal, body: text.trim() === "" ? "{}" : text });
}

function hasBody(request: Request): boolean {
  return request.headers.has("transfer-encoding") || Number(request.headers.get("content-length") ?? 0) > 0;
}

function unknownPath(paths: PathTable, method: string, path: string): TorporError {
  const known = paths.find(path);
  if (!known) return new TorporError("not_found", `no such path: ${path.slice(0, 200)}`, { hint: "see /docs" });
  const methods = [...known.methods].join(", ");
  return new TorporError("method_not_allowed", `${known.template} does not take ${method}`, {
    hint: `it takes ${methods}`,
  });
}
