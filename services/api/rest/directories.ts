import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { listDirectory, makeDirectory, removeFile, statFile } from "../handlers/directories.ts";
import { fileInput, listDirectoryInput, removeFileInput } from "../inputs/file.ts";
import { parseInput } from "../inputs/parse.ts";
import { guestPath, userName } from "../inputs/text.ts";
import { jsonAnswer, jsonBody, sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { booleanQuery, integerQuery } from "./query.ts";
import { sandboxPath } from "./sandbox_path.ts";
import { fileListView, fileView, viewFile } from "./views/file.ts";

const tags = ["files"];

const fileQuery = z.object({ path: guestPath, user: userName });

const statRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/files/stat",
  tags,
  summary: "Describe a file",
  description: "A symbolic link is described itself, with its target.",
  request: { params: sandboxPath, query: fileQuery },
  responses: { 200: jsonAnswer(fileView, "The file."), ...sandboxErrors },
});

const listRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/files/list",
  tags,
  summary: "List a directory",
  request: {
    params: sandboxPath,
    query: fileQuery.extend({ depth: integerQuery(1, 32).optional().openapi({ description: "Default 1." }) }),
  },
  responses: { 200: jsonAnswer(fileListView, "Its entries, sorted by path."), ...sandboxErrors },
});

const mkdirRoute = createRoute({
  method: "post",
  path: "/v1/sandboxes/{sandbox_id}/files/mkdir",
  tags,
  summary: "Make a directory and its missing parents",
  request: { params: sandboxPath, body: jsonBody(fileInput.openapi("MakeDirectory"), true) },
  responses: { 204: { description: "Made." }, ...sandboxErrors },
});

const removeRoute = createRoute({
  method: "delete",
  path: "/v1/sandboxes/{sandbox_id}/files",
  tags,
  summary: "Remove a file or a directory",
  request: {
    params: sandboxPath,
    query: fileQuery.extend({
      recursive: booleanQuery.optional().openapi({ description: "Needed for a directory with entries." }),
    }),
  },
  responses: { 204: { description: "Removed." }, ...sandboxErrors },
});

/** Routes of directories and of what describes files. */
export function addDirectoryRoutes(app: RestApp, api: Api): void {
  app.openapi(statRoute, async (c) => {
    const file = await statFile(api, c.get("caller"), c.req.valid("param").sandbox_id, c.req.valid("query"));
    return c.json(viewFile(file), 200);
  });

  app.openapi(listRoute, async (c) => {
    const input = parseInput(listDirectoryInput, c.req.valid("query"));
    const files = await listDirectory(api, c.get("caller"), c.req.valid("param").sandbox_id, input);
    return c.json({ files: files.map(viewFile) }, 200);
  });

  app.openapi(mkdirRoute, async (c) => {
    await makeDirectory(api, c.get("caller"), c.req.valid("param").sandbox_id, c.req.valid("json"));
    return c.body(null, 204);
  });

  app.openapi(removeRoute, async (c) => {
    const input = parseInput(removeFileInput, c.req.valid("query"));
    await removeFile(api, c.get("caller"), c.req.valid("param").sandbox_id, input);
    return c.body(null, 204);
  });
}
