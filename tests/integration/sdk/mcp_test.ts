/** The tools for AI models, called by the protocol's own client, against all services and real virtual machines. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { serveHttp } from "../../../services/cli/mcp/server.ts";
import { startAllServices } from "../all_services.ts";

const CLI = fromFileUrl(new URL("../../../services/cli/main.ts", import.meta.url));

/** Calls a tool and reads its JSON, or its text where it is none. */
function caller(client: Client) {
  // deno-lint-ignore no-explicit-any
  return async (name: string, args: Record<string, unknown> = {}): Promise<any> => {
    const { content, isError } = await client.callTool({ name, arguments: args });
    const [{ text }] = content as [{ text: string }];
    const value = /^[{[]/.test(text) ? JSON.parse(text) : text;
    return isError ? { failed: value } : value;
  };
}

// The protocol's client leaves a timer of 2 s behind when it is closed.
const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test("a model works in sandboxes: over stdin and stdout, and over HTTP", options, async () => {
  await using services = await startAllServices();
  const { url, apiKey } = services;
  const client = new Client({ name: "test", version: "1" });
  const env = { ...Deno.env.toObject(), TORPOR_URL: url, TORPOR_API_KEY: apiKey };
  await client.connect(new StdioClientTransport({ command: Deno.execPath(), args: ["run", "-A", CLI, "mcp"], env }));
  const call = caller(client);
  assertEquals((await client.listTools()).tools.length, 10);

  const { sandbox_id } = await call("create_sandbox", { memory_mb: 192 });
  assertEquals(await call("write_file", { sandbox_id, path: "a/b.txt", content: "é" }), { written_bytes: 2 });
  assertEquals(await call("read_file", { sandbox_id, path: "a/b.txt" }), "é");
  const { files } = await call("list_files", { sandbox_id, path: "a" });
  assertEquals(files, [{ path: "/home/user/a/b.txt", type: "file", size_bytes: 2 }]);
  const command = "cat; echo err >&2; exit 3";
  const result = await call("run_command", { sandbox_id, command, stdin: "in", working_directory: "/home/user/a" });
  assertEquals(result, { exit_code: 3, stdout: "in", stderr: "err\n" });
  const long = await call("run_command", { sandbox_id, command: "head -c 100000 /dev/zero | tr '\\0' x" });
  assert(long.stdout.length < 61_000 && long.stdout.includes("40000 characters are left out"));

  assertEquals((await call("pause_sandbox", { sandbox_id })).state, "paused");
  assertEquals((await call("list_sandboxes")).sandboxes[0].state, "paused");
  assertEquals((await call("run_command", { sandbox_id, command: "cat a/b.txt" })).stdout, "é");
  const forked = await call("fork_sandbox", { sandbox_id });
  const [child] = forked.sandbox_ids;
  assertEquals(await call("read_file", { sandbox_id: child, path: "a/b.txt" }), "é");

  // A model learns what to do otherwise, not that the protocol failed.
  const missing = await call("read_file", { sandbox_id, path: "/no/such" });
  assertEquals(missing.failed.code, "file_not_found");
  const odd = await client.callTool({ name: "run_command", arguments: { sandbox_id, command: 7 } });
  assertEquals(odd.isError, true);
  await client.close();

  await using listener = serveHttp(url, "127.0.0.1", 0);
  const overHttp = async (key: string) => {
    const client = new Client({ name: "test", version: "1" });
    const requestInit = { headers: { authorization: `Bearer ${key}` } };
    await client.connect(new StreamableHTTPClientTransport(new URL(listener.url), { requestInit }));
    return client;
  };
  const remote = await overHttp(apiKey);
  for (const id of [child, sandbox_id]) {
    assertEquals(await caller(remote)("delete_sandbox", { sandbox_id: id }), { state: "deleted" });
  }
  await remote.close();
  const stranger = await overHttp("a-wrong-key");
  assertEquals((await caller(stranger)("list_sandboxes")).failed.code, "unauthenticated");
  await stranger.close();
  await assertRejects(() => overHttp(""));
  const page = await fetch(listener.url, {
    method: "POST",
    headers: { origin: "http://evil", authorization: "Bearer x" },
  });
  assertEquals([page.status, await page.text()], [403, "not for browsers\n"]);
});
