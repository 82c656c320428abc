import { TorporError } from "@torpor/errors";
import { FileType } from "@torpor/proto/guest";
import { errorResponse } from "@torpor/rpc";
import { log } from "@torpor/telemetry";
import { requireMode, requirePath, requireUser } from "../guest/arguments.ts";
import { holdChannel } from "../guest/held_channel.ts";
import type { SandboxAccess } from "../sandbox/access.ts";
import { limitedBody } from "./limited_body.ts";

const FILES_PATH = /^\/sandboxes\/([^/]+)\/files$/;

/**
 * File content as plain HTTP bodies (Connect messages would cost ten times the CPU), in constant memory:
 *
 *     GET /sandboxes/{id}/files?path=&user=          the file
 *     PUT /sandboxes/{id}/files?path=&user=&mode=    writes the body; mode in octal; answers {path, size_bytes, mode}
 *
 * @returns undefined for other paths. Errors have the usual JSON body; one in the middle of a GET cuts the connection.
 */
export function dataRoutes(access: SandboxAccess): (request: Request) => Promise<Response | undefined> {
  return async (request) => {
    const url = new URL(request.url);
    const sandboxId = FILES_PATH.exec(url.pathname)?.[1];
    if (sandboxId === undefined) return undefined;
    try {
      if (request.method === "GET") return await readFile(access, sandboxId, url.searchParams);
      if (request.method === "PUT") return await writeFile(access, sandboxId, url.searchParams, request);
      throw new TorporError("method_not_allowed", `${request.method} is not allowed here`);
    } catch (thrown) {
      if (!(thrown instanceof TorporError) || thrown.httpStatus >= 500) log("error", "file_route_failed", {}, thrown);
      return errorResponse(thrown);
    }
  };
}

async function readFile(access: SandboxAccess, sandboxId: string, query: URLSearchParams): Promise<Response> {
  const { path, user } = fileQuery(query);
  await using cleanup = new AsyncDisposableStack();
  const { channel } = cleanup.use(await holdChannel(access, sandboxId));
  const { entry, body } = await channel.readFile(path, { user });
  const headers = new Headers({ "content-type": "application/octet-stream" });
  // Files of /proc have the size 0 and yet content.
  const length = entry.type === FileType.FILE && entry.sizeBytes > 0n ? Number(entry.sizeBytes) : undefined;
  if (length !== undefined) headers.set("content-length", String(length));
  const held = cleanup.move(); // From here on the body releases the channel.
  return new Response(limitedBody(body, length, () => held.disposeAsync()), { headers });
}

async function writeFile(
  access: SandboxAccess,
  sandboxId: string,
  query: URLSearchParams,
  request: Request,
): Promise<Response> {
  const { path, user } = fileQuery(query);
  const mode = octalMode(query.get("mode"));
  const content = request.body ?? new Uint8Array(0);
  const options = { user, mode, signal: request.signal };
  const entry = await access.use(sandboxId, (channel) => channel.writeFile(path, content, options)).catch(bodyError);
  return Response.json({ path: entry.path, size_bytes: Number(entry.sizeBytes), mode: entry.mode });
}

/** What is no TorporError came from the request's body: the client has gone. */
function bodyError(thrown: unknown): never {
  if (thrown instanceof TorporError) throw thrown;
  throw new TorporError("canceled", "the request's body broke off", { cause: thrown });
}

function fileQuery(query: URLSearchParams): { path: string; user: string } {
  return { path: requirePath(query.get("path") ?? ""), user: requireUser(query.get("user") ?? "") };
}

function octalMode(text: string | null): number {
  if (text === null || text === "") return 0;
  return requireMode(/^[0-7]{1,4}$/.test(text) ? parseInt(text, 8) : NaN);
}
