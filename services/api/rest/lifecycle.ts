import { createRoute } from "@hono/zod-openapi";
import type { SandboxRow } from "@torpor/db";
import type { StartedOperation } from "@torpor/lifecycle";
import type { Api } from "../handlers/api.ts";
import { createSandbox } from "../handlers/create_sandbox.ts";
import {
  type BeginOptions,
  deleteSandbox,
  forkSandbox,
  pauseHooks,
  pauseSandbox,
  pingSandbox,
  resumeSandbox,
} from "../handlers/lifecycle.ts";
import { shownOperation } from "../handlers/operations.ts";
import { parseInput } from "../inputs/parse.ts";
import {
  createSandboxInput,
  forkSandboxInput,
  idempotencyHeader,
  pauseSandboxInput,
  resumeSandboxInput,
} from "../inputs/sandbox.ts";
import { commonErrors, errorView, jsonAnswer, jsonBody, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { waitQuery } from "./query.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { operationView, viewOperation } from "./views/operation.ts";
import {
  forkView,
  ownedSandboxView,
  pausedSandboxView,
  viewHook,
  viewOwnedSandbox,
  viewSandbox,
} from "./views/sandbox.ts";

const tags = ["sandboxes"];

const accepted = jsonAnswer(operationView, "With `wait=false`: it has begun.");

const spawnErrors = {
  404: jsonAnswer(errorView, "No such snapshot (`snapshot_not_found`)."),
  409: jsonAnswer(errorView, "The snapshot has other sizes (`snapshot_mismatch`), or is not ready (`conflict`)."),
};

const createSandboxRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes",
  tags,
  summary: "Create a sandbox, by a boot or from a snapshot, and wait until it runs",
  request: { query: waitQuery, headers: idempotencyHeader, body: jsonBody(createSandboxInput, false) },
  responses: { 201: jsonAnswer(ownedSandboxView, "It runs."), 202: accepted, ...commonErrors, ...spawnErrors },
});

const pauseRoute = (verb: "pause" | "sleep") =>
  createRoute({
    method: "post",
    path: `/v1/sandboxes/{sandbox_id}/${verb}`,
    tags,
    summary: verb === "pause" ? "Save a sandbox to disk and free its VM" : "Alias of pause",
    request: {
      params: sandboxPath,
      query: waitQuery,
      headers: idempotencyHeader,
      body: jsonBody(pauseSandboxInput, false),
    },
    responses: { 200: jsonAnswer(pausedSandboxView, "It is paused."), 202: accepted, ...sandboxErrors },
  });

const resumeRoute = (verb: "resume" | "wake") =>
  createRoute({
    method: "post",
    path: `/v1/sandboxes/{sandbox_id}/${verb}`,
    tags,
    summary: verb === "resume" ? "Bring a paused sandbox back where it was" : "Alias of resume",
    request: {
      params: sandboxPath,
      query: waitQuery,
      headers: idempotencyHeader,
      body: jsonBody(resumeSandboxInput, false),
    },
    responses: { 200: jsonAnswer(ownedSandboxView, "It runs."), 202: accepted, ...sandboxErrors },
  });

const forkRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/fork",
  tags,
  summary: "Make sandboxes that go on where this one is",
  description:
    "One checkpoint of it, and `count` sandboxes spawned from that on the same host: all or none. The source " +
    "goes on as it was. With an Idempotency-Key a repeat gets the same children.",
  request: {
    params: sandboxPath,
    query: waitQuery,
    headers: idempotencyHeader,
    body: jsonBody(forkSandboxInput, false),
  },
  responses: { 201: jsonAnswer(forkView, "All children run."), 202: accepted, ...sandboxErrors },
});

const pingRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/ping",
  tags,
  summary: "Start a sandbox's idle timer again",
  request: { params: sandboxPath },
  responses: { 204: { description: "Done." }, ...sandboxErrors },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/v1/sandboxes/{sandbox_id}",
  tags,
  summary: "Delete a sandbox, whatever it is doing",
  description: "Repeats are fine.",
  request: { params: sandboxPath, query: waitQuery },
  responses: {
    202: { description: "Accepted; its host has not confirmed yet, and the deletion goes on by itself." },
    204: { description: "Gone, confirmed by its host." },
    ...sandboxErrors,
  },
});

/** Routes that begin lifecycle operations. */
export function addLifecycleRoutes(app: RestApp, api: Api): void {
  app.openapi(createSandboxRoute, async (c) => {
    const input = parseInput(createSandboxInput, c.req.valid("json"));
    const started = await createSandbox(api, c.get("caller"), input, keyOf(c.req.valid("header")));
    const answer = await settle(started, c.req.valid("query").wait, viewOwnedSandbox);
    return "operation" in answer ? c.json(answer.operation, 202) : c.json(answer.sandbox, 201);
  });

  for (const verb of ["pause", "sleep"] as const) {
    app.openapi(pauseRoute(verb), async (c) => {
      const { sandbox_id } = c.req.valid("param");
      const input = parseInput(pauseSandboxInput, c.req.valid("json"));
      const started = await pauseSandbox(api, c.get("caller"), sandbox_id, input, keyOf(c.req.valid("header")));
      const answer = await settle(started, c.req.valid("query").wait, viewSandbox);
      if ("operation" in answer) return c.json(answer.operation, 202);
      return c.json({ ...answer.sandbox, hooks: (await pauseHooks(api, started)).map(viewHook) }, 200);
    });
  }

  for (const verb of ["resume", "wake"] as const) {
    app.openapi(resumeRoute(verb), async (c) => {
      const { sandbox_id } = c.req.valid("param");
      const input = parseInput(resumeSandboxInput, c.req.valid("json"));
      const started = await resumeSandbox(api, c.get("caller"), sandbox_id, input, keyOf(c.req.valid("header")));
      const answer = await settle(started, c.req.valid("query").wait, viewOwnedSandbox);
      return "operation" in answer ? c.json(answer.operation, 202) : c.json(answer.sandbox, 200);
    });
  }

  app.openapi(forkRoute, async (c) => {
    const { sandbox_id } = c.req.valid("param");
    const input = parseInput(forkSandboxInput, c.req.valid("json"));
    const started = await forkSandbox(api, c.get("caller"), sandbox_id, input, keyOf(c.req.valid("header")));
    if (!c.req.valid("query").wait) return c.json(viewOperation(shownOperation(started.operation, started.fork)), 202);
    const fork = await started.done;
    const children = fork.children.map(viewOwnedSandbox);
    const stopped_us = Number(fork.snapshot.sizes?.stoppedUs ?? 0n);
    return c.json({ source: viewSandbox(fork.source), children, stopped_us }, 201);
  });

  app.openapi(pingRoute, async (c) => {
    await pingSandbox(api, c.get("caller"), c.req.valid("param").sandbox_id);
    return c.body(null, 204);
  });

  app.openapi(deleteRoute, async (c) => {
    const { wait } = c.req.valid("query");
    const { confirmed } = await deleteSandbox(api, c.get("caller"), c.req.valid("param").sandbox_id, wait);
    return c.body(null, confirmed ? 204 : 202);
  });
}

function keyOf(header: { "idempotency-key"?: string }): BeginOptions {
  return { idempotencyKey: header["idempotency-key"] };
}

/** The answer to a lifecycle call: the sandbox at rest, or the operation that is under way. */
async function settle<View>(started: StartedOperation, wait: boolean, view: (row: SandboxRow) => View) {
  if (!wait && started.operation) return { operation: viewOperation(shownOperation(started.operation)) };
  return { sandbox: view(await started.done) };
}
