import { createRoute, z } from "@hono/zod-openapi";
import type { Api } from "../handlers/api.ts";
import { readFile, writeFile } from "../handlers/file_content.ts";
import { parseInput } from "../inputs/parse.ts";
import { writeFileInput } from "../inputs/file.ts";
import { guestPath, userName } from "../inputs/text.ts";
import { sandboxErrors } from "./answers.ts";
import type { RestApp } from "./environment.ts";
import { sandboxPath } from "./sandbox_path.ts";

const tags = ["files"];

const bytes = { "application/octet-stream": { schema: z.string().openapi({ format: "binary" }) } };

const readRoute = createRoute({
  method: "get",
  path: "/v1/sandboxes/{sandbox_id}/files",
  tags,
  summary: "Download a file",
  description: "Streamed, any size. A download that breaks off ends with a connection error, never as a short file.",
  request: { params: sandboxPath, query: z.object({ path: guestPath, user: userName }) },
  responses: { 200: { description: "The bytes.", content: bytes }, ...sandboxErrors },
});

const writeRoute = createRoute({
  method: "put",
  path: "/v1/sandboxes/{sandbox_id}/files",
  tags,
  summary: "Upload a file",
  description: "Streamed, any size, any content type. Missing directories are made. The file appears whole or not at " +
    "all; an upload that breaks off leaves the old one. Send a Content-Length (`curl -T file` does): a chunked body " +
    "costs the service memory while the sandbox takes it more slowly than it comes.",
  request: {
    params: sandboxPath,
    query: z.object({
      path: guestPath,
      user: userName,
      mode: z.string().regex(/^[0-7]{3,4}$/, "must be 3 or 4 octal digits").optional()
        .openapi({ description: "Permission bits, octal. Default: an existing file's, else 0644.", example: "0755" }),
    }),
  },
  responses: { 204: { description: "Written." }, ...sandboxErrors },
});

/** Routes for the bytes of files. */
export function addFileRoutes(app: RestApp, api: Api): void {
  app.openapi(readRoute, async (c) => {
    const { sandbox_id } = c.req.valid("param");
    const content = await readFile(api, c.get("caller"), sandbox_id, c.req.valid("query"), c.req.raw.signal);
    // The content is the sandbox's, so a browser must neither sniff its type nor show it as a page of this origin.
    const headers = new Headers({
      "content-type": "application/octet-stream",
      "content-disposition": "attachment",
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
    });
    if (content.sizeBytes !== undefined) headers.set("content-length", String(content.sizeBytes));
    return new Response(content.body, { headers });
  });

  app.openapi(writeRoute, async (c) => {
    const { path, user, mode } = c.req.valid("query");
    const input = parseInput(writeFileInput, { path, user, mode: mode === undefined ? 0 : parseInt(mode, 8) });
    const content = c.req.raw.body ?? new Uint8Array();
    await writeFile(api, c.get("caller"), c.req.valid("param").sandbox_id, input, content, c.req.raw.signal);
    return c.body(null, 204);
  });
}
