import { apiTarget } from "../client/api.ts";
import { serveHttp, serveStdio } from "../mcp/server.ts";
import { defineAction, integerOption } from "./define.ts";

/** `torpor mcp` */
export const mcp = defineAction({
  name: "mcp",
  description:
    "Serve sandboxes as tools to AI models (Model Context Protocol): over stdin and stdout, or with --port over HTTP, " +
    "where each client sends its API key as a bearer token",
  args: {
    port: { type: "string", description: "Serve streamable HTTP at this port, path /mcp" },
    host: { type: "string", description: "Address to listen at with --port (default: 127.0.0.1)" },
  },
  async run({ args }) {
    const port = integerOption(args.port, "--port", 0, 65_535);
    const { url, key } = await apiTarget();
    if (port === undefined) return await serveStdio({ url, apiKey: key });
    await using listener = serveHttp(url, args.host ?? "127.0.0.1", port);
    console.error(`listening at ${listener.url}`);
    await new Promise<void>((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, resolve);
    });
  },
});
