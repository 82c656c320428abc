import { openAddressFetch, parseAddress, Tunnel } from "@torpor/rpc";
import { TorporError } from "@torpor/errors";
import { apiTarget } from "../client/api.ts";
import { defineAction, integerOption } from "./define.ts";
import { UsageError } from "./exit_codes.ts";
import { printJson } from "./print.ts";

/** `torpor port` */
export const port = defineAction({
  name: "port",
  description: "Forward a local TCP port to a port of a sandbox, until it is interrupted",
  args: {
    id: { type: "positional", required: true, description: "Id of the sandbox" },
    port: { type: "positional", required: true, description: "Port in the sandbox" },
    local: { type: "string", description: "Local port (default: a free one)" },
  },
  async run({ args }) {
    const port = integerOption(args.port, "the port", 1, 65_535);
    if (port === undefined) throw new UsageError("no port");
    const { url, key } = await apiTarget();
    const address = parseAddress(url);
    using http = openAddressFetch(address);
    const listener = Deno.listen({
      hostname: "127.0.0.1",
      port: integerOption(args.local, "--local", 1, 65_535) ?? 0,
    });
    const local = `http://127.0.0.1:${listener.addr.port}`;
    if (args.json) printJson({ url: local, port: listener.addr.port });
    else console.log(local);
    Deno.addSignalListener("SIGINT", () => listener.close());
    const route = `${http.baseUrl}/v1/sandboxes/${args.id}/ports/${port}`;
    for await (const connection of listener) {
      forward(connection, http.fetch, route, key).catch((thrown) => {
        console.error(thrown instanceof TorporError ? thrown.message : thrown);
      });
    }
  },
});

/** Joins a local connection with the port until both directions have ended. */
async function forward(connection: Deno.TcpConn, fetch: typeof globalThis.fetch, route: string, key: string) {
  const gone = new AbortController();
  try {
    const headers = { authorization: `Bearer ${key}` };
    const tunnel = await Tunnel.open(fetch, route, { headers, signal: gone.signal });
    if (!(tunnel instanceof Tunnel)) {
      const { message } = await tunnel.json().catch(() => ({ message: `the api answered ${tunnel.status}` }));
      throw new TorporError("unavailable", message);
    }
    const sending = sendAll(connection, tunnel);
    for (let data = await tunnel.read(); data; data = await tunnel.read()) {
      for (let at = 0; at < data.length;) at += await connection.write(data.subarray(at));
    }
    await connection.closeWrite();
    await sending;
  } finally {
    gone.abort();
    connection.close();
  }
}

async function sendAll(connection: Deno.TcpConn, tunnel: Tunnel): Promise<void> {
  try {
    const buffer = new Uint8Array(65_536);
    for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
      await tunnel.write(buffer.slice(0, count));
    }
    await tunnel.end();
  } catch (_error) {
    // The program that has connected is gone.
    tunnel.close();
  }
}
