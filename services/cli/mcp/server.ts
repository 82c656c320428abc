import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import type { ConnectionOptions } from "@torpor/sdk";
import { GUEST_TOOLS } from "./guest_tools.ts";
import { SANDBOX_TOOLS } from "./sandbox_tools.ts";
import { addTools } from "./tool.ts";

const INSTRUCTIONS =
  "Sandboxes are Linux microVMs for running code. Create one, run commands in it, and delete it when it is " +
  "of no more use. Pausing one keeps its files and processes; forking one tries something without changing it.";

function mcpServer(connection: ConnectionOptions): McpServer {
  const server = new McpServer({ name: "torpor", version: "0.1.0" }, { instructions: INSTRUCTIONS });
  addTools(server, [...SANDBOX_TOOLS, ...GUEST_TOOLS], connection);
  return server;
}

/** Serves one client over stdin and stdout, until it closes them. */
export async function serveStdio(connection: ConnectionOptions): Promise<void> {
  const server = mcpServer(connection);
  const closed = Promise.withResolvers<void>();
  server.server.onclose = () => closed.resolve();
  await server.connect(new StdioServerTransport());
  // The transport does not notice the end of its stdin.
  const { stdin } = await import("node:process");
  stdin.on("end", () => void server.close());
  await closed.promise;
}

/** A listener of {@linkcode serveHttp}. */
export interface McpListener extends AsyncDisposable {
  /** What a client connects to. */
  url: string;
  finished: Promise<void>;
}

/**
 * Serves streamable HTTP at `/mcp`, without sessions: each request brings its own API key as a bearer token and acts as that
 * key alone.
 * @param apiUrl of the API that the tools use.
 */
export function serveHttp(apiUrl: string, hostname: string, port: number): McpListener {
  const server = Deno.serve({ hostname, port, onListen: () => {} }, async (request) => {
    if (new URL(request.url).pathname !== "/mcp") return new Response("not found\n", { status: 404 });
    const apiKey = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    if (!apiKey) {
      const headers = { "www-authenticate": "Bearer" };
      return new Response("send your API key as a bearer token\n", { status: 401, headers });
    }
    // A page of some website must not reach a listener of this machine through its reader's browser.
    if (request.headers.has("origin")) return new Response("not for browsers\n", { status: 403 });
    const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true });
    await mcpServer({ url: apiUrl, apiKey }).connect(transport);
    return await transport.handleRequest(request);
  });
  const { addr } = server;
  return {
    url: `http://${addr.hostname.includes(":") ? `[${addr.hostname}]` : addr.hostname}:${addr.port}/mcp`,
    finished: server.finished,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
