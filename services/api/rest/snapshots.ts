import { createRoute, z } from "@hono/zod-openapi";
import type { StartedSnapshot } from "@torpor/lifecycle";
import type { Api } from "../handlers/api.ts";
import { shownOperation } from "../handlers/operations.ts";
import {
  checkpointSandbox,
  collectSnapshots,
  createSnapshot,
  deleteSnapshot,
  inspectSandbox,
  inspectSnapshot,
  listSnapshots,
  updateSnapshot,
  visibleSnapshot,
} from "../handlers/snapshots.ts";
import { parseInput } from "../inputs/parse.ts";
import { idempotencyHeader } from "../inputs/sandbox.ts";
import {
  checkpointInput,
  collectSnapshotsInput,
  createSnapshotInput,
  listSnapshotsInput,
  snapshotReference,
  updateSnapshotInput,
} from "../inputs/snapshot.ts";
import type { Caller } from "../keys/caller.ts";
import { commonErrors, jsonAnswer, jsonBody, sandboxErrors, snapshotErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { integerQuery, verifyQuery, waitQuery } from "./query.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { operationView, viewOperation } from "./views/operation.ts";
import { snapshotPageView, snapshotView, viewSnapshot } from "./views/snapshot.ts";
import { collectionView, contentsView, viewCollection, viewContents } from "./views/snapshot_contents.ts";

const tags = ["snapshots"];

const snapshotPath = z.object({
  snapshot: snapshotReference.openapi({ param: { name: "snapshot", in: "path" } }),
});

const taken = {
  201: jsonAnswer(snapshotView, "It is ready."),
  202: jsonAnswer(operationView, "With `wait=false`: it has begun."),
};

const createSnapshotRoute = createRoute({
  method: "post",
  path: "/v1/snapshots",
  tags,
  summary: "Take a named snapshot of a running or paused sandbox",
  description: "The sandbox goes on as it was. Sandboxes are spawned from it with `snapshot` of POST /v1/sandboxes.",
  request: { query: waitQuery, headers: idempotencyHeader, body: jsonBody(createSnapshotInput, true) },
  responses: { ...taken, ...snapshotErrors },
});

const checkpointRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/checkpoint",
  tags,
  summary: "Take a snapshot with a generated name",
  request: {
    params: sandboxPath,
    query: waitQuery,
    headers: idempotencyHeader,
    body: jsonBody(checkpointInput, false),
  },
  responses: { ...taken, ...sandboxErrors },
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/snapshots",
  tags,
  summary: "List the team's and the platform's snapshots, newest first",
  request: {
    query: z.strictObject({
      limit: integerQuery(1, 1000).optional().openapi({ description: "Default 100." }),
      cursor: z.string().optional().openapi({ description: "`next_cursor` of the page before." }),
    }),
  },
  responses: { 200: jsonAnswer(snapshotPageView, "One page."), ...commonErrors },
});

const getRoute = createRoute({
  method: "get",
  path: "/v1/snapshots/{snapshot}",
  tags,
  summary: "Show a snapshot",
  request: { params: snapshotPath },
  responses: { 200: jsonAnswer(snapshotView, "The snapshot."), ...snapshotErrors },
});

const updateRoute = createRoute({
  method: "patch",
  path: "/v1/snapshots/{snapshot}",
  tags,
  summary: "Change when a snapshot expires",
  request: { params: snapshotPath, body: jsonBody(updateSnapshotInput, true) },
  responses: { 200: jsonAnswer(snapshotView, "As it is now."), ...snapshotErrors },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/v1/snapshots/{snapshot}",
  tags,
  summary: "Delete a snapshot",
  description:
    "Sandboxes that were spawned from it go on: their host keeps the data that they read until nothing refers " +
    "to it. One that is being taken is given up. Repeats by id are fine.",
  request: { params: snapshotPath },
  responses: {
    202: { description: "Accepted; its host has not confirmed yet, and the deletion goes on by itself." },
    204: { description: "Gone, confirmed by its host." },
    ...snapshotErrors,
  },
});

const inspectRoute = createRoute({
  method: "get",
  path: "/v1/snapshots/{snapshot}/contents",
  tags,
  summary: "What a snapshot consists of: manifest, extents by source, generations",
  request: { params: snapshotPath, query: verifyQuery },
  responses: { 200: jsonAnswer(contentsView, "Its contents."), ...snapshotErrors },
});

const inspectSandboxRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/snapshot",
  tags,
  summary: "What the newest snapshot of a sandbox consists of",
  request: { params: sandboxPath, query: verifyQuery },
  responses: { 200: jsonAnswer(contentsView, "Its contents."), ...sandboxErrors },
});

const collectRoute = createRoute({
  method: "post",
  path: "/v1/snapshots/collect",
  tags: ["operators"],
  summary: "Remove data that nothing refers to, on all hosts",
  description: "Only for administrators: the deployment's internal token is the key.",
  request: { body: jsonBody(collectSnapshotsInput, false) },
  responses: { 200: jsonAnswer(collectionView, "What was removed, or would be."), ...snapshotErrors },
});

/** Routes of snapshots that belong to no sandbox, and of what snapshots consist of. */
export function addSnapshotRoutes(app: RestApp, api: Api): void {
  addTakingRoutes(app, api);

  app.openapi(listRoute, async (c) => {
    const page = await listSnapshots(api, c.get("caller"), parseInput(listSnapshotsInput, c.req.valid("query")));
    const snapshots = page.snapshots.map((row) => viewSnapshot(row, c.get("caller")));
    return c.json({ snapshots, next_cursor: page.nextCursor || null }, 200);
  });

  app.openapi(getRoute, async (c) => {
    const caller = c.get("caller");
    return c.json(viewSnapshot(await visibleSnapshot(api, caller, c.req.valid("param").snapshot), caller), 200);
  });

  app.openapi(updateRoute, async (c) => {
    const caller = c.get("caller");
    const row = await updateSnapshot(api, caller, c.req.valid("param").snapshot, c.req.valid("json"));
    return c.json(viewSnapshot(row, caller), 200);
  });

  app.openapi(deleteRoute, async (c) => {
    const { confirmed } = await deleteSnapshot(api, c.get("caller"), c.req.valid("param").snapshot);
    return c.body(null, confirmed ? 204 : 202);
  });

  app.openapi(inspectRoute, async (c) => {
    const { verify } = c.req.valid("query");
    const contents = await inspectSnapshot(api, c.get("caller"), c.req.valid("param").snapshot, verify);
    return c.json(viewContents(contents), 200);
  });

  app.openapi(inspectSandboxRoute, async (c) => {
    const { verify } = c.req.valid("query");
    const contents = await inspectSandbox(api, c.get("caller"), c.req.valid("param").sandbox_id, verify);
    return c.json(viewContents(contents), 200);
  });

  app.openapi(collectRoute, async (c) => {
    const { dry_run } = parseInput(collectSnapshotsInput, c.req.valid("json"));
    return c.json(viewCollection(dry_run, await collectSnapshots(api, c.get("caller"), dry_run)), 200);
  });
}

function addTakingRoutes(app: RestApp, api: Api): void {
  app.openapi(createSnapshotRoute, async (c) => {
    const idempotencyKey = c.req.valid("header")["idempotency-key"];
    const started = await createSnapshot(api, c.get("caller"), c.req.valid("json"), { idempotencyKey });
    const answer = await settle(started, c.req.valid("query").wait, c.get("caller"));
    return "operation" in answer ? c.json(answer.operation, 202) : c.json(answer.snapshot, 201);
  });

  app.openapi(checkpointRoute, async (c) => {
    const idempotencyKey = c.req.valid("header")["idempotency-key"];
    const { sandbox_id } = c.req.valid("param");
    const input = parseInput(checkpointInput, c.req.valid("json"));
    const started = await checkpointSandbox(api, c.get("caller"), sandbox_id, input, { idempotencyKey });
    const answer = await settle(started, c.req.valid("query").wait, c.get("caller"));
    return "operation" in answer ? c.json(answer.operation, 202) : c.json(answer.snapshot, 201);
  });
}

async function settle(started: StartedSnapshot, wait: boolean, caller: Caller) {
  if (!wait) return { operation: viewOperation(shownOperation(started.operation)) };
  return { snapshot: viewSnapshot(await started.done, caller) };
}
