import { Agent, type IncomingMessage, request } from "node:http";
import { startAllServices } from "../../integration/all_services.ts";
import { buildProbe } from "../../security/probe/build_probe.ts";
import { quantile } from "../control-plane/quantile.ts";

const REQUESTS = 200;
const LARGE_BYTES = 32 * 2 ** 20;
const SMALL_PORT = 8001;
const LARGE_PORT = 8002;
const PROBE = "/usr/local/bin/probe";

/** Requests to a port of a sandbox by way of the api, its host agent and the guest's agent, against the same inside of the guest. */
export async function benchPorts(): Promise<Record<string, number>> {
  await using all = await startAllServices();
  const { host, call, url } = all;
  const sandboxId: string = (await call("POST", "/v1/sandboxes", { memory_mb: 192, disk_size_mb: 256 })).sandbox_id;
  const content = await Deno.readFile(await buildProbe(host.layout.home));
  await host.client.writeFile({ sandboxId, path: PROBE, content, user: "root" });
  for (const [port, bytes] of [[SMALL_PORT, 1], [LARGE_PORT, LARGE_BYTES]]) {
    await host.run(
      sandboxId,
      `chmod 755 ${PROBE}; setsid ${PROBE} web ${port} ${bytes} >/dev/null 2>&1 & echo started`,
    );
  }
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const hostOf = (port: number) => `${port}-${sandboxId}.sandbox.localhost`;
  try {
    await untilAnswered(url, hostOf(SMALL_PORT), agent);
    const times: number[] = [];
    for (let i = 0; i < REQUESTS; i++) times.push((await get(url, hostOf(SMALL_PORT), agent)).ms);
    const inside = await host.run(sandboxId, `${PROBE} fetch 127.0.0.1 ${SMALL_PORT} ${REQUESTS}`);
    const [insideP50, insideP99] = inside.split(" ").map((us) => Number(us) / 1000) as [number, number];
    const { ms, bytes } = await get(url, hostOf(LARGE_PORT), agent);
    return {
      port_p50_ms: quantile(times, 0.5),
      port_p99_ms: quantile(times, 0.99),
      port_added_p50_ms: quantile(times, 0.5) - insideP50,
      port_added_p99_ms: quantile(times, 0.99) - insideP99,
      port_mb_per_s: bytes / ms / 1000,
    };
  } finally {
    agent.destroy();
  }
}

/** Reads an answer to its end. */
function get(url: string, host: string, agent: Agent): Promise<{ status: number; bytes: number; ms: number }> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent, headers: { host } }, (incoming: IncomingMessage) => {
      let bytes = 0;
      incoming.on("data", (chunk: Uint8Array) => bytes += chunk.length);
      incoming.on("end", () => resolve({ status: incoming.statusCode!, bytes, ms: performance.now() - began }));
      incoming.on("error", reject);
    });
    outgoing.on("error", reject);
    outgoing.end();
  });
}

/** The server in the guest takes a moment. */
async function untilAnswered(url: string, host: string, agent: Agent): Promise<void> {
  while ((await get(url, host, agent)).status !== 200) await new Promise((resolve) => setTimeout(resolve, 100));
}
